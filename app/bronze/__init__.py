"""Packs bronze from the command line."""
