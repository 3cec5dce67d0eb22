"""Starts, watches and stops a stack's services."""
