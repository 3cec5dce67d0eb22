"""Operating-system processes: start, stop, users, logs."""
