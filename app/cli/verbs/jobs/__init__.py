"""Verbs on jobs: their files, and their runs."""
