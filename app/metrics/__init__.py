"""The exporter: what nobody but this stack knows about its pipeline, for Prometheus."""
