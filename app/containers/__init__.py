"""The same stack in containers: the compose file and the images' content."""
