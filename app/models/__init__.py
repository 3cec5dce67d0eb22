"""Models that learn from silver, and write lists and metrics to `ml` in the lake."""
