"""Reports runs as failed whose process ended with the code server; before each start of `jobs-code`.

A run is a child of the code server. When both are killed nobody reports the run's end, and it would
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
        instance.report_run_failed(run, "the code server, or the machine, was stopped under it")
        print(f"reported run {run.run_id} of job {run.job_name} as failed")
