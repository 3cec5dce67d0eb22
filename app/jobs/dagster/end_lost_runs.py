"""Before each start of `jobs-code`, reports runs as failed if their process ended with the code server.

A run is a child of the code server. If both are killed, nothing reports the run's end, and the run would
count as running for ever.
"""

import dagster as dg

LOST = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)

with dg.DagsterInstance.get() as instance:
    instance.upgrade()
    for run in instance.get_runs(dg.RunsFilter(statuses=list(LOST))):
        instance.report_run_failed(run, "the code server or the machine stopped while it ran")
        print(f"reported run {run.run_id} of job {run.job_name} as failed")
