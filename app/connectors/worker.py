"""Kafka Connect's REST interface: validates, registers, watches and restarts connectors."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from app.environment.signed_in import signed_in
from app.errors import HeadwaterError

REQUEST_TIMEOUT_S = 30  # a validation opens a session with the source
READ_TIMEOUT_S = 10  # a hanging worker must not hold up a caller that only reads
_TRACE_LINES_MAX = 4
_ERRORS_MAX = 10


class WorkerBusy(Exception):
    """The worker cannot answer now: it is starting, or distributing tasks."""


@dataclass(frozen=True)
class Task:
    """A connector (`task` None) or one of its tasks, as the worker reports it."""

    connector: str
    task: int | None
    state: str
    why: str

    def __str__(self) -> str:
        return self.connector if self.task is None else f"{self.connector} task {self.task}"


class Worker:
    """The Connect workers at their URLs: each forwards a request to the worker that has to answer it."""

    def __init__(self, *urls: str) -> None:
        self._session, addresses = signed_in(urls)
        self._urls = deque(addresses)

    def errors_of(self, config: Mapping[str, str], name: str) -> list[str]:
        """Let the worker validate a connector's configuration; return its errors."""
        plugin = config["connector.class"]
        body = {**config, "name": name}
        found = self._call("PUT", f"/connector-plugins/{plugin}/config/validate", body)
        return [
            f"{entry['value']['name']}: {error}"
            for entry in found["configs"]
            for error in entry["value"]["errors"]
        ]

    def names(self) -> list[str]:
        """Return the names of all connectors."""
        return list(self._call("GET", "/connectors"))

    def remove(self, name: str) -> None:
        """Remove a connector, if there is one; its offsets stay."""
        self._call("DELETE", f"/connectors/{name}", missing=None)

    def config(self, name: str) -> dict[str, str] | None:
        """Return the registered configuration of a connector; None if there is none."""
        found = self._call("GET", f"/connectors/{name}/config", missing=None)
        return None if found is None else dict(found)

    def register(self, name: str, config: Mapping[str, str]) -> None:
        """Create the connector, or change its configuration; an equal one restarts nothing."""
        if self.config(name) != {**config, "name": name}:
            self._call("PUT", f"/connectors/{name}/config", dict(config))

    def create_stopped(self, name: str, config: Mapping[str, str]) -> None:
        """Create a connector that is stopped, so that it can be given offsets before it first runs."""
        body = {"name": name, "config": dict(config), "initial_state": "STOPPED"}
        self._call("POST", "/connectors", body)

    def offsets(self, name: str) -> list[dict[str, Any]]:
        """Return a connector's offsets as the worker keeps them: each `partition` and `offset`."""
        found = self._call("GET", f"/connectors/{name}/offsets", missing={})
        return list(found.get("offsets") or [])

    def alter_offsets(self, name: str, offsets: list[dict[str, Any]]) -> None:
        """Replace the offsets of a stopped connector: each `partition` and `offset`."""
        self._call("PATCH", f"/connectors/{name}/offsets", {"offsets": offsets})

    def stop(self, name: str) -> None:
        """End the connector's tasks; it stays registered, and stopped, until `resume`."""
        self._call("PUT", f"/connectors/{name}/stop")

    def stopped(self, name: str) -> bool:
        """Whether the connector is stopped, and all its tasks have ended."""
        tasks = self.tasks(name)
        return [task.state for task in tasks] == ["STOPPED"]

    def resume(self, name: str) -> None:
        """Let a stopped connector run again; nothing happens to one that runs."""
        self._call("PUT", f"/connectors/{name}/resume")

    def tasks(self, name: str) -> list[Task]:
        """Return the connector itself and its tasks; empty if it is not known yet."""
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
        timeout_s = READ_TIMEOUT_S if method == "GET" else REQUEST_TIMEOUT_S
        try:
            answer = self._request(method, path, json=body, timeout=timeout_s)
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

    def _request(self, method: str, path: str, **rest: Any) -> requests.Response:
        """Ask the worker that answered last; if it does not answer, ask another one."""
        for _ in range(len(self._urls) - 1):
            try:
                return self._session.request(method, self._urls[0] + path, **rest)
            except requests.RequestException:
                self._urls.rotate(-1)
        return self._session.request(method, self._urls[0] + path, **rest)


def retry_while_busy(
    act: Callable[[], Any],
    *,
    within_s: float,
    what: str,
    every_s: float = 0.5,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """Call `act` until the worker is not busy, and return its result.

    Raises: HeadwaterError after `within_s` seconds, with the last observation.
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
    """Return the causes in a task's stack trace, without its frames."""
    lines = str(entry.get("trace", "")).splitlines()
    causes = [line.strip() for line in lines if line and not line.startswith(("\t", " "))]
    return "\n".join(causes[:1] + causes[1:][-_TRACE_LINES_MAX:])
