"""The health of the stack: services, connectors, freshness, verification, alerts that fire.

Each part is observed separately: a part that does not answer in time is reported as such, and
delays no other.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from app.environment.service_problem import BROKEN, problem_of
from app.health.connector_health import ConnectWorkers, observe
from app.page.answers import Refused
from app.page.together import Together
from app.page.trino_sql import Trino

TABLES_MAX = 500
CONNECT_TIMEOUT_S = 1.0
# Includes the look-up of the name, which takes longest if the container does not exist.
CONNECTIONS_S = 2.0
# How long one observation waits for a part; the page pauses longer between its requests.
PART_S = 8.0
# A busy Trino may take longer than PART_S; a later observation then has the answer.
STATEMENT_S = 45.0
COLUMNS = ["service", "state", "restarts", "last error"]
TIMEOUT_S = 2.0
GOOD_SERVICES = ("ready", "completed", "stopped")
_FRESHNESS = (
    "SELECT table_name, state, complete_pg_lsn, round(seconds_behind, 1) AS seconds_behind, "
    "freshness_met, last_delta_version, reason FROM ops.freshness ORDER BY table_name"
)
_VERIFICATION = (
    "SELECT table_name, verdict, rows, wrong_rows, round(minutes_ago, 1) AS minutes_ago "
    "FROM ops.verification_status ORDER BY table_name"
)


class Health:
    """Observes the stack when it is asked to.

    Args:
        home: the stack's home, where the supervisor writes `state.json`.
        asked: service → (host, port), given if there is no supervisor; a service is healthy if it
            accepts a connection.
        links: service → URL, of services with a page of their own.
        prometheus: its URL, or None.
        connect: its workers, or None.
    """

    def __init__(
        self,
        home: Path,
        trino: Trino,
        links: Mapping[str, str],
        prometheus: str | None,
        asked: Mapping[str, tuple[str, int]] | None = None,
        connect: ConnectWorkers | None = None,
    ) -> None:
        self._home = home
        self._asked = asked
        self._trino = trino
        self._links = dict(links)
        self._prometheus = prometheus
        self._connect = connect
        self._parts: Together[dict[str, Any]] = Together()
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}  # on the monotonic clock
        self._connections: Together[bool] = Together()

    def observe(self, within_s: float | None = None) -> dict[str, Any]:
        """Observe all parts, waiting `within_s` seconds (PART_S by default, and at most).

        A part that does not answer in time keeps its previous answer, with its age (`age_s`).
        Before its first answer it is `{asked}`, or `{error}` after PART_S. Its request goes on
        meanwhile.

        Returns: `services`, `connectors`, `freshness`, `verification` and `alerts`, each as
            `{columns, rows}`, `{none}` if the stack has no such part, or `{error}`; `links` of the
            running services with a page, and `off`, the names of those that do not run.
        """
        services = self._answer(self._services)
        running = {row[0] for row in services.get("rows", ()) if row[1] == "ready"}
        questions: dict[str, Callable[[], dict[str, Any]]] = {
            "connectors": self._connectors,
            "freshness": lambda: self._trino.run(_FRESHNESS, TABLES_MAX, within_s=STATEMENT_S),
            "verification": self._verification,
            "alerts": lambda: self._alerts("prometheus" in running),
        }
        asked = {name: partial(self._answer, question) for name, question in questions.items()}
        limit_s = PART_S if within_s is None else min(within_s, PART_S)
        answers = self._parts.ask(asked, limit_s)
        now = time.monotonic()
        self._known.update({name: (now, answer) for name, answer in answers.items()})
        return {
            "services": services,
            **{name: answers.get(name) or self._previous(name, now, limit_s) for name in questions},
            "links": {name: url for name, url in self._links.items() if name in running},
            "off": [name for name in self._links if name not in running],
        }

    def _previous(self, name: str, now: float, limit_s: float) -> dict[str, Any]:
        at, answer = self._known.get(name, (0.0, {}))
        if answer and "error" not in answer:
            return {**answer, "age_s": round(now - at, 1)}
        if limit_s < PART_S:
            return {"asked": True}
        return {"error": {"message": f"no answer yet, after {PART_S:.0f} s"}}

    def pulse(self) -> list[str]:
        """List the problems of services and connectors, without slow requests."""
        # In containers only Docker knows which services should run.
        services = self._answer(self._services) if self._asked is None else {}
        connectors = self._answer(self._connectors)
        problems = [
            f"{name} is {state}" + (f": {error}" if error else "")
            for name, state, _, error in services.get("rows", ())
            if state not in GOOD_SERVICES
        ]
        problems += [
            f"connector {name} is {state}" + (f": {error}" if error else "")
            for name, state, error in connectors.get("rows", ())
            if state != "RUNNING"
        ]
        return problems

    @staticmethod
    def _answer(question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return question()
        except Refused as refused:
            # It is not an error if a stack lacks a part.
            return {"none" if refused.status == 404 else "error": refused.facts}

    def _services(self) -> dict[str, Any]:
        if self._asked is not None:
            asked = {name: partial(_answers, address) for name, address in self._asked.items()}
            answers = self._connections.ask(asked, CONNECTIONS_S)
            rows: list[list[str | None]] = [
                [name, "ready" if answers.get(name) else "absent", "", None] for name in asked
            ]
            return {"columns": COLUMNS, "rows": rows}
        try:
            found = json.loads((self._home / "state.json").read_text())["services"]
        except (OSError, ValueError, KeyError) as error:
            raise Refused(503, message="the supervisor's state cannot be read") from error
        rows = []
        for name, seen in found.items():
            state, why = _state_of(self._home, name, seen)
            rows.append([name, state, str(seen.get("restarts", 0)), why])
        return {"columns": COLUMNS, "rows": rows}

    def _connectors(self) -> dict[str, Any]:
        import requests

        if self._connect is None:
            raise Refused(404, message="this stack has no Connect")
        try:
            seen = observe(self._connect)
        except (
            requests.RequestException,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:
            raise Refused(503, message="Connect does not answer") from error
        rows: list[list[str | None]] = []
        for name in sorted(seen.statuses):
            trouble = seen.problems.get(name)
            state = trouble.state.upper() if trouble else "RUNNING"
            rows.append([name, state, trouble.cause if trouble else None])
        return {"columns": ["connector", "state", "last error"], "rows": rows}

    def _verification(self) -> dict[str, Any]:
        try:
            return self._trino.run(_VERIFICATION, TABLES_MAX, within_s=STATEMENT_S)
        except Refused as refused:
            if refused.facts.get("sqlstate") != "TABLE_NOT_FOUND":
                raise
            hint = "./headwater verify --continuous, or up --only verifier"
            raise Refused(404, message="there was no round yet", hint=hint) from refused

    def _alerts(self, runs: bool) -> dict[str, Any]:
        if not runs or self._prometheus is None:
            raise Refused(404, message="Prometheus does not run, so there are no alerts")
        import requests

        try:
            answer = requests.get(f"{self._prometheus}/api/v1/alerts", timeout=TIMEOUT_S)
            alerts = answer.json()["data"]["alerts"]
        except (requests.RequestException, ValueError, KeyError) as error:
            raise Refused(503, message="Prometheus does not answer") from error
        firing = [alert for alert in alerts if alert.get("state") == "firing"]
        rows = [
            [
                alert["labels"].get("alertname"),
                alert["labels"].get("severity"),
                alert.get("annotations", {}).get("summary"),
                alert.get("activeAt"),
            ]
            for alert in firing
        ]
        return {"columns": ["alert", "severity", "what", "since"], "rows": rows}


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _state_of(home: Path, service: str, seen: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return a service's state and its problem: of its process, or as the service itself reports it."""
    if seen.get("state") == "ready" and (trouble := problem_of(home, service)):
        return BROKEN, trouble
    return seen.get("state"), _failure(seen)


def _failure(seen: Mapping[str, Any]) -> str | None:
    if seen.get("waits_for") and seen.get("state") in ("waiting", "starting"):
        return f"waits for {seen['waits_for']}"
    return (seen.get("error") or {}).get("message")
