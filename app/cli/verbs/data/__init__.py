"""Verbs on the data; what they run is imported only when they are called."""
