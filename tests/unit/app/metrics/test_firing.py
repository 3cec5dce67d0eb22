"""The alerts in `status`, from Prometheus' answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.cli.status.status import print_alerts
from app.metrics.firing import Firing, firing


@contextmanager
def prometheus(status: int, body: str) -> Iterator[str]:
    """An address that gives this answer, as Prometheus' /api/v1/alerts does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/api/v1/alerts"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def answer(*alerts: tuple[str, str, str]) -> str:
    """(severity, name, state) in Prometheus' answers."""
    found = [
        {
            "labels": {"severity": severity, "alertname": name},
            "annotations": {"summary": f"{name} it is"},
            "state": state,
            "activeAt": "2026-11-21T17:30:00.123456789Z",
        }
        for severity, name, state in alerts
    ]
    return json.dumps({"status": "success", "data": {"alerts": found}})


def test_critical_alerts_come_first_and_pending_ones_not_at_all() -> None:
    given = answer(
        ("warning", "CpuBusy", "firing"),
        ("critical", "TrinoDown", "firing"),
        ("critical", "KafkaDown", "pending"),
    )
    with prometheus(200, given) as url:
        found = firing(url)
    at = datetime(2026, 11, 21, 17, 30, tzinfo=timezone.utc)
    assert found == [
        Firing("critical", "TrinoDown", at, "TrinoDown it is"),
        Firing("warning", "CpuBusy", at, "CpuBusy it is"),
    ]


@pytest.mark.parametrize(("status", "body"), [(503, "starting"), (200, "no JSON"), (200, "{}")])
def test_a_prometheus_that_has_no_answer_is_passed_over(
    status: int, body: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with prometheus(status, body) as url:
        print_alerts(url, [])
    assert capsys.readouterr().out == ""


def test_status_tells_what_fires_and_that_nothing_does(capsys: pytest.CaptureFixture[str]) -> None:
    with prometheus(200, answer()) as url:
        print_alerts(url, [])
    assert capsys.readouterr().out == "\nalerts that fire: none\n"
    with prometheus(200, answer(("critical", "TrinoDown", "firing"))) as url:
        print_alerts(url, [])
    [head, names, row] = capsys.readouterr().out.strip().split("\n")
    assert head == "alerts that fire: 1"
    assert names.split() == ["severity", "alert", "since", "symptom"]
    assert row.split("  ")[0] == "critical"
    assert "2026-11-21 17:30:00Z" in row
    assert "TrinoDown it is" in row
