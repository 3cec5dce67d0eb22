"""Edges as OpenLineage events, and a test receiver that accepts or refuses them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.environment.settings import ROOT
from app.lineage.edge import COPY, DERIVED, FILTER, Edge, Place
from app.lineage.event_sender import INCIDENT, EventSender, sender_from_environment
from app.lineage.openlineage_events import Naming, event_of
from spark_streaming.ops.incident_table import IncidentLog
from tests.support.disk_lake import DiskLake
from tests.support.waiting import until

NAMING = Naming("https://me:secret@trino:8443", "kafka:9092,other:9092", "events", "hw")
PEOPLE, TOP = Place("lake", "silver.people"), Place("lake", "reports.top")
EDGES = [
    Edge(PEOPLE._replace(column="email"), TOP._replace(column="who"), DERIVED),
    Edge(PEOPLE._replace(column="id"), TOP, FILTER),
    Edge(Place("topic", "hw.public.people", "email"), PEOPLE._replace(column="email"), "mask:hash"),
    Edge(Place("source", "public.people", "id"), Place("topic", "hw.public.people", "id"), COPY),
]


class Receiver:
    """Accepts events, or answers `status`."""

    def __init__(self) -> None:
        self.status = 201
        self.events: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.asked.append((self.path, self.headers.get("Authorization", "")))
                if receiver.status == 201:
                    receiver.events.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server.server_port}/api/v1/lineage"

    def taken(self) -> list[str]:
        return sorted(event["outputs"][0]["name"] for event in self.events)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def incidents(tmp_path: Path) -> IncidentLog:
    return IncidentLog(DiskLake(tmp_path))


def sender_to(url: str, incidents: IncidentLog) -> EventSender:
    make = partial(_event, NAMING)
    return EventSender(url, make, incidents, retry_s=0.05)


def _event(naming: Naming, place: Place, edges: Any, time: str) -> str:
    return event_of(place, edges, naming, time)


def await_taken(receiver: Receiver, count: int) -> None:
    until(
        lambda: len(receiver.events), lambda n: n == count, within_s=20, what=f"{count} events", every_s=0.02
    )  # fmt: skip


def test_an_event_names_inputs_output_and_each_columns_fields_with_its_mask() -> None:
    event = json.loads(event_of(PEOPLE, EDGES[2:3], NAMING, "2026-11-24T12:00:00+00:00"))
    assert event["eventType"] == "COMPLETE"
    assert event["job"] == {"facets": {}, "name": "lake.silver.people", "namespace": "hw"}
    assert [(one["namespace"], one["name"]) for one in event["inputs"]] == [
        ("kafka://kafka:9092", "hw.public.people")
    ]
    [output] = event["outputs"]
    assert (output["namespace"], output["name"]) == ("trino://trino:8443", "lake.silver.people")
    [field] = output["facets"]["columnLineage"]["fields"]["email"]["inputFields"]
    assert field["field"] == "email"
    assert field["transformations"][0]["masking"] is True
    assert "secret" not in json.dumps(event)


def test_a_filter_is_lineage_of_the_whole_dataset() -> None:
    event = json.loads(event_of(TOP, EDGES[:2], NAMING, "2026-11-24T12:00:00+00:00"))
    facet = event["outputs"][0]["facets"]["columnLineage"]
    assert list(facet["fields"]) == ["who"]
    [whole] = facet["dataset"]
    assert (whole["field"], whole["transformations"][0]["type"]) == ("id", "INDIRECT")


def test_each_object_is_sent_once_and_again_when_its_edges_change(
    receiver: Receiver, incidents: IncidentLog
) -> None:
    sender = sender_to(receiver.url(), incidents)
    sender.offer(EDGES)
    await_taken(receiver, 3)
    assert receiver.taken() == ["hw.public.people", "lake.reports.top", "lake.silver.people"]
    sender.offer(EDGES)
    sender.offer([*EDGES, Edge(PEOPLE._replace(column="id"), TOP._replace(column="n"), COPY)])
    await_taken(receiver, 4)
    assert receiver.events[-1]["outputs"][0]["name"] == "lake.reports.top"
    sender.stop()


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        ("ana:p%40ss@", "Basic " + base64.b64encode(b"ana:p@ss").decode()),
        ("token-1@", "Bearer token-1"),
        ("", ""),
    ],
)
def test_the_urls_user_or_token_signs_in(
    receiver: Receiver, incidents: IncidentLog, user: str, sent: str
) -> None:
    sender = sender_to(receiver.url(user), incidents)
    sender.offer(EDGES[:1])
    await_taken(receiver, 1)
    assert receiver.asked == [("/api/v1/lineage", sent)]
    sender.stop()


def test_a_receiver_that_fails_stops_nothing_is_told_and_gets_all_later(
    receiver: Receiver, incidents: IncidentLog, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 503
    sender = sender_to(receiver.url("ana:geheim@"), incidents)
    sender.offer(EDGES)
    until(
        lambda: incidents.incidents(state="open", kind=INCIDENT), bool, within_s=20, what="an incident"
    )  # fmt: skip
    receiver.status = 201
    await_taken(receiver, 3)
    until(
        lambda: incidents.incidents(state="open", kind=INCIDENT), lambda found: not found,
        within_s=20, what="the incident's end",
    )  # fmt: skip
    assert "refuses events: status 503" in caplog.text
    assert "geheim" not in caplog.text
    sender.stop()


def test_nobody_at_the_address_stops_nothing(incidents: IncidentLog) -> None:
    sender = sender_to("http://127.0.0.1:1/api/v1/lineage", incidents)
    sender.offer(EDGES)
    found = until(
        lambda: incidents.incidents(state="open", kind=INCIDENT), bool, within_s=20, what="an incident"
    )  # fmt: skip
    assert "does not answer" in found[0].cause
    sender.stop()


def test_without_an_address_there_is_no_sender_whatever_the_clients_own_variables_say(
    tmp_path: Path,
) -> None:
    given = {"OPENLINEAGE_URL": "http://127.0.0.1:1", "HEADWATER_OPENLINEAGE_URL": ""}
    assert sender_from_environment(DiskLake(tmp_path), given) is None


def test_making_events_reads_no_settings_of_the_library_and_opens_no_connection(
    tmp_path: Path,
) -> None:
    (tmp_path / "openlineage.yml").write_text("transport:\n  type: file\n  log_file_path: seen\n")
    program = (
        "import socket\n"
        "def refuse(*_): raise SystemExit('a connection')\n"
        "socket.socket.connect = refuse\n"
        "from tests.unit.app.lineage.test_openlineage import EDGES, NAMING, TOP\n"
        "from app.lineage.openlineage_events import event_of\n"
        "print(event_of(TOP, EDGES[:2], NAMING, '2026-11-24T12:00:00+00:00'))\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OPENLINEAGE_URL": "http://127.0.0.1:1",
        "OPENLINEAGE__TAGS__JOB__SEEN": "yes",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "seen" not in done.stdout.lower()
    assert [path.name for path in tmp_path.iterdir()] == ["openlineage.yml"]
