"""Traces one row through every hop."""
