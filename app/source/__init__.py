"""The source database: its state, preflight, and the objects that Headwater leaves in it."""
