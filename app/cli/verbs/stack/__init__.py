"""Verbs that start, stop and show the stack."""
