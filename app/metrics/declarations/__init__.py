"""Each metric once: what it is, which panels show it, which alerts watch it."""
