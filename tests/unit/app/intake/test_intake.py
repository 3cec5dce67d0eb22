"""The intake: who may send, how much, and its answers; log lines as events."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from fastapi.testclient import TestClient

from app.bounded_http import Limits, server_of
from app.intake import log_lines
from app.intake.accept import EVENTS_MAX, Budget, Streams, Unavailable
from app.intake.api import BODY_BYTES_MAX, make_api
from app.intake.client import IntakeError, Sent
from app.intake.sender import LOGS, RUNS, Sender
from app.processes.log_files import shift
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.streams.producer import StreamProducer
from spark_streaming.streams.stream_contract import read_streams, stream_folders
from spark_streaming.streams.stream_event import Judge
from tests.support.serving import serving
from tests.support.stack import free_port_offset
from tests.support.waiting import until

TOKEN = "t" * 32
NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
PATH = "/api/v1/streams/app_logs/events"
HEADERS = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}


@pytest.fixture(scope="module")
def api() -> Iterator[TestClient]:
    """The application with an unreachable broker."""
    with free_port_offset() as offset:
        producer = StreamProducer(KafkaCluster(f"127.0.0.1:{offset + 19_092}"))
        with TestClient(make_api(Streams(""), producer, prefix="hw", token=TOKEN)) as client:
            yield client


def body(*events: Any) -> bytes:
    return json.dumps({"events": events}).encode()


def line(key: str, **data: Any) -> dict[str, Any]:
    return {"key": key, "data": {"service": "shop", "message": "m", **data}}


@pytest.mark.parametrize(
    ("path", "headers", "content", "status", "told"),
    [
        (PATH, {"authorization": "Bearer x"}, body(), 401, "token is missing or wrong"),
        (PATH, {"authorization": ""}, body(), 401, "token is missing or wrong"),
        (PATH, {"content-type": "text/plain"}, body(), 415, "send JSON"),
        ("/api/v1/streams/nothing/events", {}, body(), 404, "no such stream"),
        ("/api/v1/streams/..%2f..%2fapp_logs/events", {}, body(), 404, ""),
        (PATH, {}, b"{", 400, "not JSON"),
        (PATH, {}, b"[]", 400, "the body is not"),
        (PATH, {}, b'{"events": [], "more": 1}', 400, "the body is not"),
        (PATH, {}, body(*[1] * (EVENTS_MAX + 1)), 413, "at most 1000 a request"),
        (PATH, {}, b" " * (BODY_BYTES_MAX + 1), 413, "larger than 8 MiB"),
    ],
)
def test_a_request_that_cannot_be_taken_is_refused_with_a_reason(
    api: TestClient, path: str, headers: dict[str, str], content: bytes, status: int, told: str
) -> None:
    answer = api.post(path, content=content, headers={**HEADERS, **headers})
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]
    assert TOKEN not in answer.text


def test_a_body_without_a_length_is_refused(api: TestClient) -> None:
    answer = api.post(PATH, content=iter([b"{}"]), headers=HEADERS)
    assert answer.status_code == 411


def test_each_event_that_breaks_the_contract_is_named_with_its_reason(api: TestClient) -> None:
    events = [line("a", message=5), {"key": "b", "data": {"message": "m"}}, 7]
    answer = api.post(PATH, content=body(*events), headers=HEADERS)
    assert answer.status_code == 200
    document = answer.json()
    assert document["accepted"] == 0
    assert [(r["index"], r["key"], r["rule"]) for r in document["refused"]] == [
        (0, "a", "breaks-contract"),
        (1, "b", "breaks-contract"),
        (2, None, "not-an-event"),
    ]
    assert document["refused"][1]["reason"] == "`service` is missing"


def test_events_that_the_broker_has_not_confirmed_are_to_be_sent_again(api: TestClient) -> None:
    answer = api.post(PATH, content=body(line("a"), line("b", x=1)), headers=HEADERS)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    document = answer.json()
    assert [u["key"] for u in document["unknown"]] == ["a"]
    assert [r["key"] for r in document["refused"]] == ["b"]


def test_more_than_the_budget_is_told_to_wait() -> None:
    producer = StreamProducer(KafkaCluster("127.0.0.1:1"))
    api = make_api(Streams(""), producer, prefix="hw", token=TOKEN, bodies_bytes_max=10)
    answer = TestClient(api).post(PATH, content=body(line("a")), headers=HEADERS)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"


def is_told(url: str, text: bytes) -> bool:
    """Whether `text` is in the answer of the address."""
    with urlopen(url, timeout=20) as answer:
        return text in answer.read()


def test_a_body_that_does_not_come_is_ended_and_gives_its_budget_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = make_api(
        Streams(""), StreamProducer(KafkaCluster("127.0.0.1:1")), prefix="hw", token=TOKEN
    )
    server = server_of(api, "127.0.0.1", 0, Limits(connections_max=4, body_s=1.0))
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    with serving(server) as port, socket.create_connection(("127.0.0.1", port), 20) as sender:
        metrics = f"http://127.0.0.1:{port}/metrics"
        half = f"POST {PATH} HTTP/1.1\r\nhost: here\r\n{head}content-length: 99\r\n\r\nhalf"
        sender.sendall(half.encode())
        for held in (b"headwater_intake_held_bytes 99.0", b"headwater_intake_held_bytes 0.0"):
            until(partial(is_told, metrics, held), within_s=20, what=str(held))
        assert sender.recv(100) == b""
        assert is_told(metrics, b'headwater_intake_requests_total{status="408"} 1.0')
    assert "Traceback" not in caplog.text and "Exception" not in caplog.text


def test_a_budget_is_given_back() -> None:
    budget = Budget(10)
    with budget.reserved(6), pytest.raises(Unavailable), budget.reserved(5):
        pass
    with budget.reserved(10):
        assert budget.used == 10
    assert budget.used == 0


# -- log lines


def events_of(found: list[log_lines.Line], now: datetime = NOW) -> list[dict[str, Any]]:
    return list(log_lines.line_events("shop", "stderr", found, "run", now))


def test_a_lines_time_and_level_are_read_where_it_has_them() -> None:
    found = [
        log_lines.Line(0, b"2026-03-10 11:59:58,250 WARNING shop: slow"),
        log_lines.Line(50, b"  a line that goes on"),
        log_lines.Line(80, b"[2026-03-10T12:30:00+01:00] ERROR x"),
        log_lines.Line(99, b"2031-01-01 00:00:00 INFO from a wrong clock"),
    ]
    events = events_of(found)
    assert [e["time"][11:23] for e in events] == ["11:59:58.250"] * 2 + ["11:30:00+00:"] * 2
    assert [e["data"]["level"] for e in events] == ["WARN", None, "ERROR", "INFO"]
    judge = Judge(read_streams(stream_folders(""))[0]["app_logs"])
    assert [judge.check(e, NOW).key for e in events] == [e["key"] for e in events]


def test_lines_read_twice_are_the_same_events_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    path.write_bytes(b"one\ntwo\ntwo\n")
    first = events_of(log_lines.next_piece(path, None, 1000).lines)
    later = events_of(log_lines.next_piece(path, None, 1000).lines, NOW + timedelta(hours=5))
    assert [e["key"] for e in first] == [e["key"] for e in later]
    assert len({e["key"] for e in first}) == 3


def test_a_line_without_its_end_waits_and_a_very_long_one_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    path.write_bytes(b"one\ntw")
    piece = log_lines.next_piece(path, 0, 1000)
    assert ([x.text for x in piece.lines], piece.position) == ([b"one"], 4)
    path.write_bytes(b"x" * 100_000)
    piece = log_lines.next_piece(path, 0, 1000)
    assert piece.position == 1000
    [event] = events_of([log_lines.Line(0, b"x" * 100_000)])
    assert len(event["data"]["message"]) == log_lines.LINE_BYTES_MAX


def test_a_file_that_is_far_ahead_is_taken_up_near_its_end_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    path.write_bytes(b"0123456\n" * (1 << 20) + b"0123456\n" * 10)
    piece = log_lines.next_piece(path, 4, 1000)
    assert piece.skipped > 0
    assert piece.lines[0].text == b"0123456"
    assert piece.lines[0].offset % 8 == 0


def test_the_sender_sends_every_line_across_rotations_and_failures(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "run" / "shop"
    folder.mkdir(parents=True)
    path = folder / "stderr.log"
    taken: dict[str, str] = {}

    def post(stream: str, events: Any) -> Sent:
        if stream == LOGS:
            some = list(events) if rng.random() < 0.7 else list(events)[: rng.randrange(5)]
            taken.update({e["key"]: e["data"]["message"] for e in some})
            if len(some) < len(events):
                raise IntakeError("cut")
        return Sent(len(events))

    written = []
    sender = Sender(tmp_path, post, tmp_path / "state.json", lambda: NOW)

    def turn() -> bool:
        try:
            sender.send_new()
            return True
        except IntakeError:
            return False

    for number in range(200):
        with open(path, "ab") as file:
            file.write(f"line {number}\n".encode())
        written.append(f"line {number}")
        if rng.random() < 0.3:
            turn()
        if rng.random() < 0.1:
            sender = Sender(tmp_path, post, tmp_path / "state.json", lambda: NOW)
        # Lines that were not sent before a rotation are in the older file.
        if rng.random() < 0.1:
            while not turn():
                pass
            if path.stat().st_size > 100:
                shift(path)
                path.touch()
    while not turn():
        pass
    assert sorted(taken.values()) == sorted(written)


def test_each_state_of_a_service_is_sent_once(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []

    def post(stream: str, events: Any) -> Sent:
        sent.extend(events if stream == RUNS else [])
        return Sent(len(events))

    def write(state: str, pid: int | None, since: float) -> None:
        seen = {"state": state, "pid": pid, "since": since, "start_time": 9, "restarts": 0}
        document = {"boot_id": "b" * 36, "generation": 1, "services": {"shop": seen}}
        (tmp_path / "state.json").write_text(json.dumps(document))

    for state, pid, since in (("starting", 5, 1.0), ("ready", 5, 2.0), ("ready", 5, 2.0)):
        write(state, pid, since)
        Sender(tmp_path, post, tmp_path / "sender.json").send_new()
    write("backoff", None, 3.0)
    Sender(tmp_path, post, tmp_path / "sender.json").send_new()
    assert [e["data"]["state"] for e in sent] == ["starting", "ready", "backoff"]
    assert sent[0]["data"]["run_id"] == sent[1]["data"]["run_id"] == "shop/bbbbbbbb/5/9"
    assert len({e["key"] for e in sent}) == 3
