"""Prints the jobs for Dagster as one JSON object: `python -m app.jobs.dagster_plan`, in Headwater's environment."""

from __future__ import annotations

import json
import sys
from typing import Any

from app.environment.settings import load
from app.jobs.job_file import JobFile, find_jobs
from app.jobs.job_folder import job_folders


def planned(file: JobFile) -> dict[str, Any]:
    """Return a job's schedule, and the order and retries of its tasks, for Dagster."""
    return {
        "job": file.name,
        "description": file.job.description,
        "schedule": file.job.schedule,
        "timezone": file.job.timezone or "UTC",
        "tasks": {
            name: {
                "depends_on": task.depends_on,
                "retries": task.retries,
                "retry_after": task.retry_after,
            }
            for name, task in file.job.tasks.items()
        },
    }


if __name__ == "__main__":
    jobs, problems = find_jobs(*job_folders(load()))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(json.dumps({"jobs": [planned(file) for file in jobs.values()]}))
