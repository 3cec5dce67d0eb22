"""Keeps each run of a model in MLflow: what it read, how good it was, what it made; and which version is best."""
