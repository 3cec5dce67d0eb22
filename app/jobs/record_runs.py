"""Writes finished runs to `ops.job_runs`: `python -m app.jobs.record_runs`, started by Dagster's sensor.

Standard input is a JSON list of runs in the form of `app.jobs.dagster_client`. A run that is already in the
table is skipped, so a repeated call changes nothing.
"""

from __future__ import annotations

import json
import sys

from app.environment.settings import load
from app.errors import HeadwaterError
from app.jobs.dagster_client import run_of
from app.jobs.job_runs_table import JobRunsTable, rows_of
from app.jobs.run_records import runs_folder
from app.jobs.run_view import attempts_of, reason_of
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import load_store


def main() -> int:
    """Write the runs. Returns: the exit code; after any code but 0 the sensor retries."""
    folder = runs_folder(load().home)
    runs = [run_of(one) for one in json.load(sys.stdin)]
    rows = [
        row
        for run in runs
        for row in rows_of(run, reason_of(run, folder), attempts_of(run, folder))
    ]
    try:
        print(f"{JobRunsTable(Lake(load_store())).append(rows)} rows to ops.job_runs")
    except (OSError, HeadwaterError) as error:
        print(f"ops.job_runs could not be written: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
