"""Models that learn from silver and write lists and figures to `ml` in the lake."""
