"""The lock file of all artefacts, and the cache that it names."""
