"""Compares a source table with silver at one instant."""
