"""Change events: their position in the source's log, and decoding them into typed rows."""
