"""Whether the stream of a previous run, or of a restored home, can go on."""
