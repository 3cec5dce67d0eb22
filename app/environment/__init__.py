"""A stack's settings, profile and home, and the machine they are on; imports no other package."""
