"""Packs the sink's small objects of bronze into large ones, and deletes the small ones later."""
