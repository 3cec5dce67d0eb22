"""Merge engines: delta-rs and Spark's MERGE, with one meaning."""
