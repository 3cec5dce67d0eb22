"""A task of kind `publish`: `python -m app.serving.publish_task TABLE NAME [KEY…]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from app.environment.settings import load
from app.errors import HeadwaterError
from app.jobs.report import report
from app.jobs.run_records import RUN_FOLDER, read_records
from app.serving.publication import Publication, publish
from app.serving.serving_address import owner_dsn


def main(arguments: list[str]) -> int:
    """Publish, and report the number of rows. Returns: the exit code."""
    table, name, *key = arguments
    settings = load()
    job, folder = os.environ.get("HEADWATER_JOB"), os.environ.get(RUN_FOLDER)
    versions: dict[str, int] = {}
    for record in read_records(Path(folder)) if folder else []:
        versions.update(record.read_versions)
    wanted = Publication(table, name, key, job, Path(folder).name if folder else None)
    try:
        rows = publish(wanted, settings.trino_url, owner_dsn(settings), versions)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{rows} rows of {table} are published as {name}")
    report(rows=rows, rows_written=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
