"""Finds connectors that carry no events, even where Kafka Connect calls them running.

A task that takes an error for a temporary one retries for ever, and is RUNNING all the while. Two
sources show this: Debezium's metric says whether the stream is connected, and each retry leaves a line
with its cause in the worker's log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from app.health.problem import Problem, one_line

ASK_TIMEOUT_S = 3.0
LOG_BYTES = 256_000
# A sink's next attempt comes within five seconds and the time of a request.
RETRIED_WITHIN = timedelta(seconds=20)
# Debezium's attempts grow apart, and each waits for the source's answer.
SOURCE_RETRIED_WITHIN = timedelta(seconds=60)
LOGS = "./headwater logs connect"

_LINE = re.compile(
    r"^(?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\S* +(?P<level>[A-Z]+) +\S+ (?P<rest>.*)$"
)
_TASK = re.compile(r"^\[(?P<connector>[^|\]]+)\|task-\d+\] (?P<message>.*)$")
_RETRY = re.compile(r"(?i)will retry|trying again")
_CONNECTED = re.compile(r"^debezium_streaming_connected(?:\{[^}]*\})? (\S+)", re.MULTILINE)
_SNAPSHOT = re.compile(r"^debezium_snapshot_snapshotrunning(?:\{[^}]*\})? (\S+)", re.MULTILINE)

Status = Mapping[str, Any]


class Observed(NamedTuple):
    """Connector → its status in Connect; connector → its problem, where it has one."""

    statuses: dict[str, Status]
    problems: dict[str, Problem]


def observe(connect_url: str, metrics_url: str | None, log: Path | None) -> Observed:
    """Ask the worker at `connect_url` and judge its connectors: for `status`, the page and the metrics.

    Args:
        connect_url: with its user and password.
        metrics_url: the worker's own metrics, in Prometheus' text format; None asks for none.
        log: the worker's stderr, where this machine has it.
    Raises: requests.RequestException, ValueError, KeyError, TypeError or AttributeError where the worker
        does not answer as it should.
    """
    import requests

    session = requests.Session()
    session.trust_env = False  # loopback is never behind a proxy
    url = f"{connect_url.rstrip('/')}/connectors"
    answer = session.get(url, params={"expand": "status"}, timeout=ASK_TIMEOUT_S)
    answer.raise_for_status()
    statuses = {name: each["status"] for name, each in answer.json().items()}
    metrics = None
    if metrics_url is not None:
        try:
            metrics = session.get(metrics_url, timeout=ASK_TIMEOUT_S).text
        except requests.RequestException:
            metrics = None
    retries = retries_of(tail(log)) if log is not None else {}
    found = connector_problems(statuses, metrics, retries, datetime.now(timezone.utc))
    return Observed(statuses, {one.part.removeprefix("connector "): one for one in found})


def ask(connect_url: str, metrics_url: str, log: Path | None) -> list[Problem]:
    """Return the problems of the worker's connectors, or that the worker does not answer; see `observe`."""
    import requests

    try:
        return list(observe(connect_url, metrics_url, log).problems.values())
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = f"`./headwater status connect`, then `{LOGS}`"
        # An error's own words may hold the address, with its password.
        cause = f"Kafka Connect does not answer as it should: {type(error).__name__}"
        silent = Problem("connectors", "not known", cause, hint)
        return [silent, *_by_log(log, datetime.now(timezone.utc))]


def _by_log(log: Path | None, now: datetime) -> list[Problem]:
    """Return the connectors that retry by the worker's log, for when the worker does not answer."""
    found = retries_of(tail(log)) if log is not None else {}
    return [
        Problem(f"connector {name}", "retrying", one_line(why), f"`{LOGS}`")
        for name, (at, why) in sorted(found.items())
        if now - at <= SOURCE_RETRIED_WITHIN
    ]


def connector_problems(
    statuses: Mapping[str, Status],
    metrics: str | None,
    retries: Mapping[str, tuple[datetime, str]],
    now: datetime,
) -> list[Problem]:
    """Return the problems in what was observed.

    Args:
        statuses: connector → what Connect's REST interface says of it.
        metrics: the worker's metrics; None where they could not be had.
        retries: connector → time and cause of its newest retry in the log.
    """
    found = (
        _not_running(name, status) or _not_carrying(name, status, metrics, retries.get(name), now)
        for name, status in sorted(statuses.items())
    )
    return [problem for problem in found if problem is not None]


def _not_running(name: str, status: Status) -> Problem | None:
    for part in (status["connector"], *status["tasks"]):
        state = str(part["state"]).lower()
        if state == "running":
            continue
        cause = root_cause(str(part.get("trace") or "").splitlines()) or f"its task is {state}"
        hint = f"`capture` starts a failed task again; `{LOGS}`"
        if state in ("stopped", "paused"):
            hint = "`./headwater logs capture` says why"
        return Problem(f"connector {name}", state, one_line(cause), hint)
    if not status["tasks"]:
        cause = "it has no task: Connect has not handed one out yet"
        return Problem(f"connector {name}", "waiting", cause, f"`{LOGS}`")
    return None


def _not_carrying(
    name: str,
    status: Status,
    metrics: str | None,
    retry: tuple[datetime, str] | None,
    now: datetime,
) -> Problem | None:
    """Return the problem of a connector that Connect calls running but that carries nothing."""
    why = one_line(retry[1]) if retry else ""
    if status.get("type") == "source":
        if metrics is None:  # only the log is left: a worker under load may serve no metrics
            if retry is None or now - retry[0] > SOURCE_RETRIED_WITHIN:
                return None
        elif _is_on(_CONNECTED, metrics) or _is_on(_SNAPSHOT, metrics):
            return None
        state, cause = "starting", "it does not read the source's log yet"
        if why:
            state, cause = "retrying", f"it does not read the source's log: {why}"
        hint = f"see whether the source answers: `./headwater preflight`; then `{LOGS}`"
        return Problem(f"connector {name}", state, cause, hint)
    if retry is None or now - retry[0] > RETRIED_WITHIN:
        return None
    hint = f"see whether the object store answers: `./headwater status s3`; then `{LOGS}`"
    return Problem(f"connector {name}", "retrying", why, hint)


def _is_on(gauge: re.Pattern[str], metrics: str) -> bool:
    found = gauge.search(metrics)
    return found is not None and float(found.group(1)) > 0


def retries_of(text: str) -> dict[str, tuple[datetime, str]]:
    """Read from a log: connector → time of its newest retry, and the innermost cause."""
    found: dict[str, tuple[datetime, str]] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        head = _LINE.match(line)
        task = _TASK.match(head["rest"]) if head and head["level"] in ("WARN", "ERROR") else None
        if head is None or task is None or not _RETRY.search(task["message"]):
            continue
        trace = lines[number + 1 :]
        end = next((i for i, one in enumerate(trace) if _LINE.match(one)), len(trace))
        at = datetime.fromisoformat(head["at"]).replace(tzinfo=timezone.utc)
        cause = root_cause(trace[:end]) or task["message"]
        found[task["connector"]] = (at, cause)
    return found


def root_cause(trace: Iterable[str]) -> str:
    """Return the message of the innermost exception of a stack trace."""
    messages = [line.strip() for line in trace if line and not line.startswith(("\t", " "))]
    causes = [line for line in messages if line.startswith("Caused by: ")] or messages
    return causes[-1].removeprefix("Caused by: ") if causes else ""


def tail(path: Path) -> str:
    """Return the end of a file; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
