"""Jobs: whether they ran when they should, and how they ended."""

from __future__ import annotations

from app.metrics.declarations.declaration import (
    DATA_ENGINEERING,
    Alert,
    Dashboard,
    Query,
    gauge,
    graph,
)

# The label is `name`, for Prometheus has one `job` of its own.
METRICS = (
    gauge("job_failed", "1: the job's latest run that is over has failed", "name"),
    gauge("job_late_seconds", "Since when the job should have been started; 0: it was", "name"),
    gauge("job_seconds", "How long the job's latest run took", "name"),
    gauge("job_success_timestamp_seconds", "When the job last succeeded", "name"),
)

JOBS_FAILED = "max by (name) (headwater_job_failed)"
JOBS_LATE = Query("max by (name) (headwater_job_late_seconds)", "s")

DASHBOARD = Dashboard("jobs", "Jobs: failed, late, how long they take", (
    graph("Jobs whose latest run failed", JOBS_FAILED),
    graph("Jobs that are late", JOBS_LATE,
          help="How long ago a job should have been started by its schedule"),
    graph("Time of the latest run", Query("max by (name) (headwater_job_seconds)", "s")),
    graph("Since the last success",
          Query("time() - max by (name) (headwater_job_success_timestamp_seconds)", "s")),
))  # fmt: skip

ALERTS = (
    Alert("JobFailed", JOBS_FAILED, ">", 0, "0s", "warning",
          "The latest run of job {{ $labels.name }} failed", "0", team=DATA_ENGINEERING,
          may_be_absent=True),
    Alert("JobLate", JOBS_LATE, ">", 600, "0s", "warning",
          "Job {{ $labels.name }} was not started by its schedule", "0", team=DATA_ENGINEERING,
          may_be_absent=True),
)  # fmt: skip
