"""Rebuilds a silver table from bronze."""
