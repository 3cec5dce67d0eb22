"""Backs up a stack into a folder or a bucket, and restores it into an empty home."""
