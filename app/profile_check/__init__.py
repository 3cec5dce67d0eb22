"""Connects to each part that a profile names, as the identity that will be used."""
