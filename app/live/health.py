"""How the stack is: services, connectors, freshness, verification, what alarms.

Each part is looked at by itself; one that does not answer in time says so, and the others are told.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from app.live.source import Refused
from app.live.together import Together
from app.live.trino_sql import Trino

TABLES_MAX = 500
CONNECT_TIMEOUT_S = 1.0
# With the look-up of its name, which takes longest where the container is not there.
ASKED_S = 2.0
# How long a look waits for a part: less than the page waits between its looks.
PART_S = 8.0
# A statement of a busy Trino may take longer: a later look has its answer.
STATEMENT_S = 45.0
COLUMNS = ["service", "state", "restarts", "last error"]
TIMEOUT_S = 2.0
ERROR_CHARS_MAX = 300
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
    """Looks when it is asked.

    Args:
        home: of the stack; the supervisor keeps `state.json` there.
        asked: service → (host, port); where it is given there is no supervisor, and each service is
            asked for a connection.
        links: service → address, of those that people open.
        prometheus, connect: their addresses, or None.
    """

    def __init__(
        self,
        home: Path,
        trino: Trino,
        links: Mapping[str, str],
        prometheus: str | None,
        asked: Mapping[str, tuple[str, int]] | None = None,
        connect: str | None = None,
    ) -> None:
        self._home = home
        self._asked = asked
        self._trino = trino
        self._links = dict(links)
        self._prometheus = prometheus
        self._connect = connect
        self._parts: Together[dict[str, Any]] = Together()
        self._connections: Together[bool] = Together()

    def look(self) -> dict[str, Any]:
        """`services`, `connectors`, `freshness`, `verification`, `alerts`: each `{columns, rows}`,
        `{none}` where the stack has nothing that could tell, or `{error}`; `links` of services
        that run, and `off`, the names of those with a page that do not."""
        services = self._told(self._services)
        running = {row[0] for row in services.get("rows", ()) if row[1] == "ready"}
        looks: dict[str, Callable[[], dict[str, Any]]] = {
            "connectors": self._connectors,
            "freshness": lambda: self._trino.run(_FRESHNESS, TABLES_MAX, within_s=STATEMENT_S),
            "verification": self._verification,
            "alerts": lambda: self._alerts("prometheus" in running),
        }
        late = {"error": {"message": f"no answer yet, after {PART_S:.0f} s"}}
        told = self._parts.ask({n: partial(self._told, look) for n, look in looks.items()}, PART_S)
        return {
            "services": services,
            **{name: told.get(name, late) for name in looks},
            "links": {name: url for name, url in self._links.items() if name in running},
            "off": [name for name in self._links if name not in running],
        }

    def pulse(self) -> list[str]:
        """What is wrong with services and connectors, in words; asks nothing that is slow."""
        # Docker tells of containers; which of them ought to be there is not known here.
        services = self._told(self._services) if self._asked is None else {}
        connectors = self._told(self._connectors)
        troubles = [
            f"{name} is {state}" + (f": {error}" if error else "")
            for name, state, _, error in services.get("rows", ())
            if state not in GOOD_SERVICES
        ]
        troubles += [
            f"connector {name} is {state}" + (f": {error}" if error else "")
            for name, state, error in connectors.get("rows", ())
            if state != "RUNNING"
        ]
        return troubles

    @staticmethod
    def _told(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return look()
        except Refused as refused:
            # What is left out of a stack is no fault of it.
            return {"none" if refused.status == 404 else "error": refused.told}

    def _services(self) -> dict[str, Any]:
        if self._asked is not None:
            asked = {name: partial(_answers, address) for name, address in self._asked.items()}
            answers = self._connections.ask(asked, ASKED_S)
            rows: list[list[str | None]] = [
                [name, "ready" if answers.get(name) else "absent", "", None] for name in asked
            ]
            return {"columns": COLUMNS, "rows": rows}
        try:
            found = json.loads((self._home / "state.json").read_text())["services"]
        except (OSError, ValueError, KeyError) as error:
            raise Refused(503, message="the supervisor's state cannot be read") from error
        rows = [
            [name, seen.get("state"), str(seen.get("restarts", 0)), _failure(seen)]
            for name, seen in found.items()
        ]
        return {"columns": COLUMNS, "rows": rows}

    def _connectors(self) -> dict[str, Any]:
        import requests

        if self._connect is None:
            raise Refused(404, message="this stack has no Connect")
        try:
            answer = requests.get(
                f"{self._connect}/connectors", params={"expand": "status"}, timeout=TIMEOUT_S
            )
            found = {name: told["status"] for name, told in answer.json().items()}
            rows = [[name, *_state(status)] for name, status in sorted(found.items())]
        except (
            requests.RequestException,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:
            raise Refused(503, message="Connect does not answer") from error
        return {"columns": ["connector", "state", "last error"], "rows": rows}

    def _verification(self) -> dict[str, Any]:
        try:
            return self._trino.run(_VERIFICATION, TABLES_MAX, within_s=STATEMENT_S)
        except Refused as refused:
            if refused.told.get("sqlstate") != "TABLE_NOT_FOUND":
                raise
            hint = "./headwater verify --continuous, or up --only verifier"
            raise Refused(404, message="there was no round yet", hint=hint) from refused

    def _alerts(self, runs: bool) -> dict[str, Any]:
        if not runs or self._prometheus is None:
            raise Refused(404, message="Prometheus does not run: nothing alarms")
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


def _failure(seen: Mapping[str, Any]) -> str | None:
    if seen.get("waits_for") and seen.get("state") in ("waiting", "starting"):
        return f"waits for {seen['waits_for']}"
    return (seen.get("error") or {}).get("message")


def _state(status: Mapping[str, Any]) -> tuple[str, str | None]:
    """A connector's state, or its task's where that is another, and why it failed."""
    for part in (status["connector"], *status["tasks"]):
        if part["state"] != "RUNNING":
            # The stack trace's first line: the exception and what it says.
            said = (part.get("trace") or "").strip().partition("\n")[0]
            return part["state"], said[:ERROR_CHARS_MAX] or None
    return "RUNNING", None
