"""The verb `status`, and the rows that it shows."""
