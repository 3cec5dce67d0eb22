"""The exporter: what only this stack knows about its pipeline, for Prometheus."""
