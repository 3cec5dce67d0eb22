"""Records each run of a model in MLflow: its inputs, metrics and models, and which version is champion."""
