"""Metrics that a default stack does not have, so tests of all metrics must not wait for them."""

# Metrics of jobs, of signed access, and of more tables than a metric has series.
WITHOUT_SERIES = "headwater_job_|headwater_rules_not_applied|exporter_series_dropped"
