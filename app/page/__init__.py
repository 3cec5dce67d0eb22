"""The page: edit rows of the source and watch each change travel."""
