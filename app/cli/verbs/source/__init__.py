"""Verbs on the source database: ready for capture, brought back, left."""
