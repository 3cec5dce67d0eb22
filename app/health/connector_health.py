"""Finds connectors that carry no events, even if Kafka Connect calls them running.

A task that treats an error as temporary retries for ever, and is RUNNING all that time. Two sources
show this: Debezium's metric says whether the stream is connected, and each retry writes a line with
its cause into the worker's log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from app.environment.ports import instance_name
from app.environment.signed_in import signed_in
from app.health.problem import Problem, one_line

if TYPE_CHECKING:
    import requests

    from app.environment.settings import Settings

ASK_TIMEOUT_S = 3.0
LOG_BYTES = 256_000
# A sink's next attempt comes within five seconds and the time of a request.
RETRIED_WITHIN = timedelta(seconds=20)
# Debezium's attempts get rarer, and each waits for the source's answer.
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


@dataclass(frozen=True)
class ConnectWorkers:
    """The workers of Kafka Connect. Any of them answers for all; each has its own metrics and log.

    Args:
        urls: their REST interfaces, with user and password.
        metrics_urls: their own metrics, in Prometheus' text format.
        logs: their stderr, if this machine has it.
    """

    urls: Sequence[str] = field(repr=False)
    metrics_urls: Sequence[str] = ()
    logs: Sequence[Path] = ()

    @classmethod
    def of(cls, settings: Settings) -> ConnectWorkers:
        """Return the workers of a stack."""
        if not settings.profile.connect_here:
            return cls(settings.connect_urls)
        count = settings.profile.connect_workers
        metrics = settings.ports.addresses("connect_metrics", count).split(",")
        names = [instance_name("connect", number) for number in range(1, count + 1)]
        return cls(
            settings.connect_urls,
            [f"http://{address}/metrics" for address in metrics],
            [settings.home / "run" / name / "stderr.log" for name in names],
        )


class Observed(NamedTuple):
    """Connector → its status in Connect; connector → its problem, if it has one."""

    statuses: dict[str, Status]
    problems: dict[str, Problem]


def observe(workers: ConnectWorkers) -> Observed:
    """Ask the workers and judge the connectors: for `status`, the page and the metrics.

    Raises: requests.RequestException, ValueError, KeyError, TypeError or AttributeError if no
        worker answers as it should.
    """
    import requests

    session, urls = signed_in(workers.urls)
    statuses = _statuses(session, urls)
    texts = []
    for url in workers.metrics_urls:
        with suppress(requests.RequestException):
            texts.append(session.get(url, timeout=ASK_TIMEOUT_S).text)
    metrics = "\n".join(texts) if texts else None
    retries = _newest_retries(workers.logs)
    found = connector_problems(statuses, metrics, retries, datetime.now(timezone.utc))
    return Observed(statuses, {one.part.removeprefix("connector "): one for one in found})


def _statuses(session: requests.Session, urls: Sequence[str]) -> dict[str, Status]:
    """Return connector → its status, by the first worker that answers."""
    import requests

    for number, url in enumerate(urls, 1):
        try:
            answer = session.get(
                f"{url}/connectors", params={"expand": "status"}, timeout=ASK_TIMEOUT_S
            )
            answer.raise_for_status()
            return {name: each["status"] for name, each in answer.json().items()}
        except requests.RequestException:
            if number == len(urls):
                raise
    return {}


def _newest_retries(logs: Iterable[Path]) -> dict[str, tuple[datetime, str]]:
    newest: dict[str, tuple[datetime, str]] = {}
    for log in logs:
        for name, retry in retries_of(tail(log)).items():
            newest[name] = max(retry, newest.get(name, retry))
    return newest


def ask(workers: ConnectWorkers) -> list[Problem]:
    """Return the problems of the connectors, or that no worker answers; see `observe`."""
    import requests

    try:
        return list(observe(workers).problems.values())
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = f"`./headwater status connect`, then `{LOGS}`"
        cause = f"Kafka Connect does not answer as it should: {type(error).__name__}"
        silent = Problem("connectors", "not known", cause, hint)
        return [silent, *_by_log(workers.logs, datetime.now(timezone.utc))]


def _by_log(logs: Iterable[Path], now: datetime) -> list[Problem]:
    """Return the connectors that retry according to the workers' logs, if no worker answers."""
    found = _newest_retries(logs)
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
    """Return the problems in these observations.

    Args:
        statuses: connector → its state in Connect's REST interface.
        metrics: the workers' metrics; None if none could be had.
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
        hint = f"`capture` starts a failed task again; see `{LOGS}`"
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
    return any(float(found.group(1)) > 0 for found in gauge.finditer(metrics))


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
    """Return the end of a file; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
