"""Kafka Connect's REST interface: validate, register, watch and restart connectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from app.errors import HeadwaterError

REQUEST_TIMEOUT_S = 30  # a validation opens a session with the source
_TRACE_LINES_MAX = 4
_ERRORS_MAX = 10


class WorkerBusy(Exception):
    """The worker cannot answer now: it is starting, or it hands out tasks anew."""


@dataclass(frozen=True)
class Task:
    """A connector (`task` None) or one of its tasks, as the worker sees it."""

    connector: str
    task: int | None
    state: str
    why: str

    def __str__(self) -> str:
        return self.connector if self.task is None else f"{self.connector} task {self.task}"


class Worker:
    """The Connect worker at a URL."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # loopback is never behind a proxy

    def errors_of(self, config: Mapping[str, str], name: str) -> list[str]:
        """What the worker's own validation says against a connector's configuration."""
        plugin = config["connector.class"]
        body = {**config, "name": name}
        found = self._call("PUT", f"/connector-plugins/{plugin}/config/validate", body)
        return [
            f"{entry['value']['name']}: {error}"
            for entry in found["configs"]
            for error in entry["value"]["errors"]
        ]

    def config(self, name: str) -> dict[str, str] | None:
        """The registered configuration of a connector; None where there is none."""
        found = self._call("GET", f"/connectors/{name}/config", missing=None)
        return None if found is None else dict(found)

    def register(self, name: str, config: Mapping[str, str]) -> None:
        """Create the connector, or give it this configuration; nothing restarts if it has it."""
        if self.config(name) != {**config, "name": name}:
            self._call("PUT", f"/connectors/{name}/config", dict(config))

    def offsets(self, name: str) -> list[dict[str, Any]]:
        """A connector's offsets as the worker keeps them: `partition` and `offset` of each."""
        found = self._call("GET", f"/connectors/{name}/offsets", missing={})
        return list(found.get("offsets") or [])

    def stop(self, name: str) -> None:
        """End the connector's tasks; it stays registered, and stopped, until `resume`."""
        self._call("PUT", f"/connectors/{name}/stop")

    def resume(self, name: str) -> None:
        """Let a stopped connector run again; nothing happens to one that runs."""
        self._call("PUT", f"/connectors/{name}/resume")

    def tasks(self, name: str) -> list[Task]:
        """The connector itself and its tasks; empty where it is not known yet."""
        found = self._call("GET", f"/connectors/{name}/status", missing={})
        if not found:
            return []
        own = [(None, found["connector"])] + [(task["id"], task) for task in found["tasks"]]
        return [Task(name, number, entry["state"], _why(entry)) for number, entry in own]

    def restart(self, failed: Task) -> None:
        """Start a failed connector or task again."""
        where = "" if failed.task is None else f"/tasks/{failed.task}"
        self._call("POST", f"/connectors/{failed.connector}{where}/restart")

    def _call(self, method: str, path: str, body: object = None, missing: Any = ...) -> Any:
        try:
            answer = self._session.request(
                method, self._url + path, json=body, timeout=REQUEST_TIMEOUT_S
            )
        except requests.RequestException as error:
            raise WorkerBusy(f"{method} {path}: {error}") from error
        if answer.status_code == 404 and missing is not ...:
            return missing
        if answer.status_code in (404, 409, 500, 503):
            raise WorkerBusy(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        if answer.status_code >= 400:
            raise HeadwaterError(
                f"Kafka Connect refuses {method} {path}",
                detail=f"{answer.status_code} {answer.text[:2000]}",
                hint="see `headwater logs connect`",
            )
        return answer.json() if answer.content else None


def patiently(
    act: Callable[[], Any],
    *,
    within_s: float,
    what: str,
    every_s: float = 0.5,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """The answer of `act`, asked again while the worker is busy.

    Raises: HeadwaterError after `within_s` seconds, with the last thing observed.
    """
    limit = clock() + within_s
    while True:
        try:
            return act()
        except WorkerBusy as error:
            if clock() > limit:
                raise HeadwaterError(
                    f"{what}: not within {within_s:.0f} s",
                    detail=str(error),
                    hint="see `headwater status connect` and `headwater logs connect`",
                ) from error
        sleep(every_s)


def _why(entry: Mapping[str, Any]) -> str:
    """The causes in a task's stack trace, shortest form."""
    lines = str(entry.get("trace", "")).splitlines()
    causes = [line.strip() for line in lines if line and not line.startswith(("\t", " "))]
    return "\n".join(causes[:1] + causes[1:][-_TRACE_LINES_MAX:])
