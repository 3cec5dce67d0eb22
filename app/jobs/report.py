"""A task's report: values that later tasks may test in `when`, and that `job status` shows.

In a task of kind `python`:

    from app.jobs.report import report
    report(rows=120, rows_written=120)
"""

from __future__ import annotations

import json
import os
from pathlib import Path

REPORT = "HEADWATER_TASK_REPORT"


def report(**values: bool | int | float | str | None) -> None:
    """Report values; a second call adds to the first. Outside a job it does nothing.

    `rows_written` is also in the record of the run.
    """
    given = os.environ.get(REPORT)
    if given is None:
        return
    path = Path(given)
    known = json.loads(path.read_text()) if path.exists() else {}
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({**known, **values}))
    os.replace(beside, path)
