"""Checks that bronze holds all events of each transaction, by the counts in its END record."""
