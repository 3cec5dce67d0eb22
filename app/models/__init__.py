"""Models: what is learnt from silver, and written to `ml` in the lake as lists and figures."""
