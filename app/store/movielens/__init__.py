"""Loads the MovieLens files into the store."""
