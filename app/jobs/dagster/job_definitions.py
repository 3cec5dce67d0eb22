"""Dagster's definitions of the jobs; `jobs-code` loads this module in Dagster's own environment.

`python -m app.jobs.dagster_plan`, in Headwater's environment, reads the job files. Each task is an op that starts
`python -m app.jobs.task_attempt` and waits for it: that process runs the task, enforces its limits and records
its result. This module only passes the reports of earlier tasks to it. To end the task it closes that
process's standard input; the operating system does the same if this process is killed.

The op of a failed task succeeds in Dagster, because tasks with `when = "always"` or `"any_failed"` must run
after it; the op `RESULT` at the end fails the run.
"""

import fcntl
import json
import os
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

PYTHON = os.environ["HEADWATER_PYTHON"]
RUNS = Path(os.environ["HEADWATER_JOB_RUNS"])
END_WAIT_S = 30
RUNS_AT_ONCE = 200
OVER = [
    dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED,
]  # fmt: skip
RESULT = "RESULT"
BEGIN_S = 120  # from a run's start to its first task
DATABASE_WAIT_S = 300
HELD: dict[str, Any] = {}  # the locks of this process


def read_plan() -> list[dict[str, Any]]:
    """Return the valid jobs; mistakes in others go to the log."""
    done = subprocess.run(
        [PYTHON, "-m", "app.jobs.dagster_plan"], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)["jobs"]


def run_attempt(context: Any, job: str, task: str, before: dict[str, Any]) -> dict[str, Any]:
    """Run one attempt of a task; return its record as `app.jobs.run_records` writes it."""
    number = context.retry_number + 1
    request = {
        "parameters": json.loads(context.run.tags.get("headwater/parameters", "{}")),
        "before": before,
    }
    command = [PYTHON, "-m", "app.jobs.task_attempt", job, task, context.run_id, str(number)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            code = process.wait()
        finally:
            process.stdin.close()
            process.wait(END_WAIT_S)
    record = RUNS / context.run_id / f"{task}-{number}.json"
    found = json.loads(record.read_text()) if record.exists() else {}
    if code or found.get("state") not in ("succeeded", "failed", "skipped"):
        reason = f"the process that runs it ended with {code}"
        return {"state": "failed", "reason": reason, "values": {}, "retry": True}
    return found


def hold(run_id: str) -> None:
    """Lock a file of the run for as long as this process lives, so that `is_lost` notices its end."""
    if run_id not in HELD:
        folder = RUNS / run_id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        HELD[run_id] = (folder / "alive").open("w")
        fcntl.flock(HELD[run_id], fcntl.LOCK_EX)


def is_lost(run_id: str, started: float) -> bool:
    """Whether the process of a run has ended; `started` is when the run started."""
    try:
        with (RUNS / run_id / "alive").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return time.time() > started + BEGIN_S
    except BlockingIOError:
        return False


def await_database(context: Any) -> None:
    """Wait until Dagster's database answers, because a run that cannot record its events ends at once."""
    give_up = time.monotonic() + DATABASE_WAIT_S
    while True:
        try:
            context.instance.get_run_by_id(context.run_id)
            return
        except Exception:
            if time.monotonic() > give_up:
                raise
            time.sleep(1)


def task_op(job: str, name: str, task: dict[str, Any]) -> dg.OpDefinition:
    """Return the op of a task. Its output: the results of this task and of all earlier ones, by name."""

    def compute(context, **inputs):
        hold(context.run_id)
        before = {key: one for part in inputs.get("before", ()) for key, one in part.items()}
        ended = run_attempt(context, job, name, before)
        await_database(context)
        if ended["state"] == "failed":
            context.log.error(f"task {name} failed: {ended['reason']}")
            if ended["retry"] and context.retry_number < task["retries"]:
                raise dg.RetryRequested(task["retries"], task["retry_after"])
        elif ended["state"] == "skipped":
            context.log.info(f"task {name} was skipped: {ended['reason']}")
        mine = {key: ended[key] for key in ("state", "reason", "values")}
        return {**before, name: mine}

    ins = {"before": dg.In(list)} if task["depends_on"] else {}
    return dg.op(name=f"{job}__{name}", ins=ins, out=dg.Out(dict))(compute)


def result_op(job: str) -> dg.OpDefinition:
    """Return the op that fails the run if a task has failed."""

    def compute(context, before):
        ended = {key: one for part in before for key, one in part.items()}
        failed = {name: one["reason"] for name, one in ended.items() if one["state"] == "failed"}
        if failed:
            raise dg.Failure(
                "; ".join(f"task {name} failed: {why}" for name, why in failed.items()),
                allow_retries=False,
            )

    return dg.op(name=f"{job}__{RESULT}", ins={"before": dg.In(list)}, out={})(compute)


def fan_in(names: list[str]) -> dict[str, Any]:
    return {"before": dg.MultiDependencyDefinition([dg.DependencyDefinition(n) for n in names])}


def make_job(plan: dict[str, Any]) -> dg.JobDefinition:
    job, tasks = plan["job"], plan["tasks"]
    ops = {name: task_op(job, name, task) for name, task in tasks.items()}
    result = result_op(job)
    dependencies = {
        dg.NodeInvocation(ops[name].name, alias=name): (
            fan_in(task["depends_on"]) if task["depends_on"] else {}
        )
        for name, task in tasks.items()
    }
    dependencies[dg.NodeInvocation(result.name, alias=RESULT)] = fan_in(list(tasks))
    graph = dg.GraphDefinition(
        name=job,
        description=plan["description"] or None,
        node_defs=[*ops.values(), result],
        dependencies=dependencies,
    )
    return graph.to_job(
        # One process for each run: tasks already have their own processes.
        executor_def=dg.in_process_executor,
        resource_defs={"io_manager": dg.mem_io_manager},
        tags={"headwater/job": job},
    )


def end_lost_runs(instance: Any) -> None:
    """Report runs as failed if their process has ended.

    The code server does so itself, but stops for good if it once cannot reach the database.
    """
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    for record in instance.get_run_records(started):
        run_id = record.dagster_run.run_id
        if is_lost(run_id, record.start_time or time.time()):
            run = instance.get_run_by_id(run_id)  # with the last events of its process
            if run and run.status == dg.DagsterRunStatus.STARTED:
                instance.report_run_failed(run, "the run's process has ended")


@dg.sensor(
    name="record_runs",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    jobs=[],
)
def record_runs(context):
    """End lost runs, and write finished runs to `ops.job_runs`; failures are retried."""
    end_lost_runs(context.instance)
    since = datetime.fromisoformat(context.cursor) if context.cursor else None
    records = context.instance.get_run_records(
        dg.RunsFilter(statuses=OVER, updated_after=since),
        order_by="update_timestamp",
        ascending=True,
        limit=RUNS_AT_ONCE,
    )
    if not records:
        return
    runs = [
        {
            "runId": one.dagster_run.run_id,
            "pipelineName": one.dagster_run.job_name,
            "status": one.dagster_run.status.value,
            "creationTime": one.create_timestamp.timestamp(),
            "startTime": one.start_time,
            "endTime": one.end_time,
            "tags": [{"key": k, "value": v} for k, v in one.dagster_run.tags.items()],
        }
        for one in records
    ]
    subprocess.run(
        [PYTHON, "-m", "app.jobs.record_runs"], input=json.dumps(runs), text=True, check=True
    )
    context.update_cursor(records[-1].update_timestamp.isoformat())


def make_definitions() -> dg.Definitions:
    plans = read_plan()
    jobs = {plan["job"]: make_job(plan) for plan in plans}
    schedules = [
        dg.ScheduleDefinition(
            job=jobs[plan["job"]],
            cron_schedule=plan["schedule"],
            execution_timezone=plan["timezone"],
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
        for plan in plans
        if plan["schedule"]
    ]
    return dg.Definitions(jobs=list(jobs.values()), schedules=schedules, sensors=[record_runs])


definitions = make_definitions()
