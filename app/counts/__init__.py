"""Whether bronze holds each transaction's events, by the counts of its END record."""
