"""Loads files of a folder or bucket into tables of `lake.files`."""
