"""Metrics that a stack of the default parts does not have: no test of all metrics may wait for them."""

# Jobs, signed access, and more tables than a family of series shows.
WITHOUT_SERIES = "headwater_job_|headwater_rules_not_applied|exporter_series_dropped"
