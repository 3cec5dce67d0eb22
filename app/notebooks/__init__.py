"""Notebooks on the lake: marimo's server, its environment, and the functions with which notebooks read the lake."""
