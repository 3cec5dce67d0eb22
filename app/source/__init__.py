"""The source database: what it is like, preflight, and what Headwater leaves in it."""
