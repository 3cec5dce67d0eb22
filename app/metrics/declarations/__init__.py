"""Declares each metric once: its meaning, the panels that show it, the alerts that watch it."""
