"""A problem that a running service reports: `data/<service>/trouble.json` in the home.

The service's process runs and answers, so the supervisor calls it ready; `status` and the page show
it as broken.
"""

from __future__ import annotations

import json
from pathlib import Path

from app.environment.settings import write_private
from app.errors import HeadwaterError

BROKEN = "broken"


def report_problem(home: Path, service: str, error: HeadwaterError | None) -> None:
    """Write a service's problem; remove the note if `error` is None."""
    path = _file(home, service)
    if error is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    reported = {"message": error.message, "detail": error.detail, "hint": error.hint}
    write_private(path, json.dumps(reported))


def problem_of(home: Path, service: str) -> str:
    """Return problem, observation and next step in one line; empty if there is no problem."""
    try:
        reported = json.loads(_file(home, service).read_text())
        return "; ".join(str(reported[p]) for p in ("message", "detail", "hint") if reported[p])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _file(home: Path, service: str) -> Path:
    return home / "data" / service / "trouble.json"
