"""Watches changes arrive at each hop."""
