"""The service `capture`: keeps the stream going, recovers it, and resyncs tables."""
