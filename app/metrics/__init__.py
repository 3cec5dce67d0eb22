"""The exporter: metrics about the pipeline that no single service has, for Prometheus."""
