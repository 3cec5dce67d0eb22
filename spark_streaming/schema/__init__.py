"""Schema changes of source tables, and the state of each captured topic."""
