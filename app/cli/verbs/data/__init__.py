"""Verbs on the data; their programs are imported only when they are called."""
