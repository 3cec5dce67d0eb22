"""Notebooks on the lake: marimo's server, its environment, and what notebooks connect with."""
