"""Streams on a real broker and store, without a source: each sent event is in silver once."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from kafka import KafkaProducer

from app.intake.client import Intake, Sent, event
from app.lake.lakehouse import Lakehouse
from spark_streaming.quarantine.quarantine import OPEN
from spark_streaming.storage.lake import STREAM_QUARANTINE
from spark_streaming.streams.producer import StreamProducer
from tests.support.intake import client_of, intake_of, rows_of
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SOON_S = 90.0
SHOP = """
retention_days = 2
[columns.n]
type = "int64"
not_null = true
"""


@pytest.fixture(scope="module")
def taking() -> Iterator[Stack]:
    """Kafka, the object store, the intake and `streams`, with the test's stream `shop`."""
    with fresh_stack() as fresh:
        folder = fresh.settings.contracts_dir / "streams"
        folder.mkdir(parents=True)
        (folder / "shop.toml").write_text(SHOP)
        fresh.up("--only", "intake")
        yield fresh


def numbered(prefix: str, numbers: range | list[int]) -> list[dict[str, Any]]:
    return [event({"n": n}, key=f"{prefix}-{n}") for n in numbers]


def counts(stack: Stack, prefix: str) -> Counter[str]:
    """Key → how often silver has it, for keys with this prefix."""
    rows = rows_of(stack, "shop", "event_key")
    return Counter(row["event_key"] for row in rows if row["event_key"].startswith(f"{prefix}-"))


def quarantined(stack: Stack, prefix: str) -> list[tuple[str, int, int]]:
    """(key, partition, offset) of each quarantine entry whose key has this prefix."""
    table = Lakehouse(stack.settings).lake.table(STREAM_QUARANTINE).to_pyarrow_dataset()
    rows = table.to_table(columns=["key", "partition", "offset"]).to_pylist()
    found = [(row["key"], row["partition"], row["offset"]) for row in rows]
    return [place for place in found if place[0].startswith(f"{prefix}-")]


def await_keys(stack: Stack, prefix: str, count: int) -> None:
    wanted = {f"{prefix}-{n}": 1 for n in range(count)}
    found = until(
        lambda: counts(stack, prefix),
        lambda found: len(found) >= count,
        within_s=SOON_S,
        what=f"{count} keys of {prefix} in silver",
    )
    assert found == wanted


def test_what_the_intake_has_taken_is_in_silver_with_its_day_and_its_place(taking: Stack) -> None:
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    events = [*numbered("place", range(3)), event({"n": 3}, key="place-3", time=yesterday)]
    assert intake_of(taking, "shop").post(events, SOON_S) == Sent(4, [])
    await_keys(taking, "place", 4)
    rows = [r for r in rows_of(taking, "shop") if r["event_key"].startswith("place-")]
    assert {(r["event_key"], r["n"]) for r in rows} == {(f"place-{n}", n) for n in range(4)}
    assert all(r["day"] == r["event_time"].date() for r in rows)
    assert [r["day"] for r in rows if r["n"] == 3] == [yesterday.date()]
    assert len({(r["_partition"], r["_offset"]) for r in rows}) == 4


def test_events_sent_again_hours_later_are_in_silver_once(taking: Stack) -> None:
    intake = intake_of(taking, "shop")
    intake.post(numbered("again", range(20)), SOON_S)
    await_keys(taking, "again", 20)
    earlier = datetime.now(timezone.utc) - timedelta(hours=5)
    repeated = [event({"n": n}, key=f"again-{n}", time=earlier) for n in range(25)]
    assert intake.post(repeated, SOON_S).accepted == 25
    await_keys(taking, "again", 25)


def test_one_bad_event_is_refused_by_its_number_and_the_others_are_taken(taking: Stack) -> None:
    events = [*numbered("mixed", range(2)), event({"n": "x"}, key="mixed-bad"), event({"m": 1})]
    done = intake_of(taking, "shop").post(events, SOON_S)
    assert done.accepted == 2
    assert [(r["index"], r["rule"]) for r in done.refused] == [
        (2, "breaks-contract"),
        (3, "breaks-contract"),
    ]
    await_keys(taking, "mixed", 2)


def test_each_key_is_in_silver_once_though_everything_is_killed_while_clients_send(
    taking: Stack, seed: int
) -> None:
    rng = random.Random(seed)
    services = ["streams", "intake", "kafka", "s3", "streams"]
    stop = threading.Event()
    sent: set[int] = set()
    errors: list[Exception] = []

    def send(first: int) -> None:
        """Send the sender's own numbers, and some of the others' again."""
        own, number = random.Random(seed + first), first
        intake = intake_of(taking, "shop")
        try:
            while not stop.is_set():
                batch = list(range(number, number + 4 * own.randint(1, 50), 4))
                again = own.choices(list(sent.copy()), k=20) if sent else []
                intake.post(numbered("kill", [*batch, *again]), SOON_S)
                sent.update(batch)
                number = batch[-1] + 4
        except Exception as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    def send_bad() -> None:
        """Send records that are not events; each confirmed one is an entry of quarantine."""
        producer = StreamProducer(taking.settings.kafka)
        try:
            while not stop.wait(0.1):
                key = f"torn-{len(torn)}"
                if producer.send("hw.stream-shop", [(key.encode(), b"{")]) == [None]:
                    torn.add(key)
            producer.close()
        except Exception as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    torn: set[str] = set()
    senders = [threading.Thread(target=send, args=(n,), daemon=True) for n in range(4)]
    senders.append(threading.Thread(target=send_bad, daemon=True))
    for sender in senders:
        sender.start()
    for service in services:
        before = len(sent)
        more = before + rng.randint(200, 800)
        until(lambda more=more: len(sent) > more, within_s=SOON_S, what="more events")  # type: ignore[misc]
        os.kill(int(taking.status()[service]["pid"]), signal.SIGKILL)
    until(lambda: len(sent) > before + 800, within_s=SOON_S, what="events after the last kill")
    stop.set()
    for sender in senders:
        sender.join(SOON_S)
    assert errors == []
    wanted = {f"kill-{n}": 1 for n in sent}
    found = until(
        lambda: counts(taking, "kill"),
        lambda found: found.keys() >= wanted.keys(),
        within_s=SOON_S,
        what="every acknowledged event in silver",
    )
    assert found == wanted
    entries = until(
        lambda: quarantined(taking, "torn"),
        lambda found: {key for key, _, _ in found} >= torn,
        within_s=SOON_S,
        what="every torn record in quarantine",
    )
    assert len(torn) > 0 and set(Counter(entries).values()) == {1}
    taking.run("quarantine", "discard", "shop")


def test_a_table_that_is_gone_is_made_again_from_the_topic(taking: Stack) -> None:
    intake_of(taking, "shop").post(numbered("gone", range(10)), SOON_S)
    await_keys(taking, "gone", 10)
    before = {row["event_key"] for row in rows_of(taking, "shop", "event_key")}
    files = Lakehouse(taking.settings).lake.filesystem()
    os.kill(int(taking.status()["streams"]["pid"]), signal.SIGKILL)
    files.delete_dir("silver/shop")
    until(
        lambda: rows_of(taking, "shop", "event_key"),
        lambda rows: len(rows) >= len(before),
        within_s=SOON_S,
        what="the table from the topic's beginning",
    )
    rows = rows_of(taking, "shop", "event_key")
    assert sorted(row["event_key"] for row in rows) == sorted(before)


def test_what_reaches_the_topic_undecodable_is_quarantined_and_replayed_after_the_fix(
    taking: Stack,
) -> None:
    now = datetime.now(timezone.utc).isoformat()
    producer = KafkaProducer(**taking.settings.kafka.options, acks="all")
    values = [
        b"\xff no json",
        json.dumps({"time": now, "data": {"n": 1, "colour": "red"}}).encode(),
        json.dumps({"time": now, "data": {"n": 2}}).encode(),
    ]
    for number, value in enumerate(values):
        producer.send("hw.stream-shop", key=f"bad-{number}".encode(), value=value).get(30)
    producer.close()

    def entries() -> list[dict[str, Any]]:
        listed = taking.run("quarantine", "list", "shop", "--format", "json").stdout
        return list(json.loads(listed))

    found = until(entries, lambda rows: len(rows) == 2, within_s=SOON_S, what="two entries")
    assert {row["key"]: row["rule"] for row in found} == {
        "bad-0": "not-json",
        "bad-1": "breaks-contract",
    }
    assert {row["status"] for row in found} == {OPEN}
    assert counts(taking, "bad") == {"bad-2": 1}
    path = Path(taking.settings.contracts_dir) / "streams" / "shop.toml"
    path.write_text(SHOP + '[columns.colour]\ntype = "text"\n')

    def replayed() -> set[tuple[str, str]]:
        rows = taking.run("quarantine", "replay", "shop", "--format", "json", expect=None).stdout
        return {(row["entry"].split("/")[0], row["outcome"]) for row in json.loads(rows)}

    until(
        replayed,
        lambda rows: ("hw.stream-shop", "replayed") in rows,
        within_s=SOON_S,
        what="the repaired event replayed",
    )
    assert counts(taking, "bad") == {"bad-1": 1, "bad-2": 1}
    row = next(r for r in rows_of(taking, "shop") if r["event_key"] == "bad-1")
    assert (row["n"], row["colour"]) == (1, "red")
    [left] = entries()
    taking.run("quarantine", "discard", left["entry"])
    assert entries() == []


def test_the_background_client_sends_all_and_tells_what_is_refused(taking: Stack) -> None:
    refused: list[dict[str, Any]] = []
    with client_of(taking, "shop", on_refused=refused.append, queue_events_max=100) as client:
        for number in range(1_000):
            client.send({"n": number}, key=f"client-{number}")
        client.send({"n": "x"})
    assert (client.sent.accepted, client.lost, len(refused)) == (1_000, 0, 1)
    await_keys(taking, "client", 1_000)


def test_the_ratings_generator_feeds_kafka_directly(taking: Stack) -> None:
    import subprocess
    import sys

    words = ["ratings", "--to-kafka", "--rate", "0", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "app.store", *words],
        env=taking.environment,
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=True,
    )
    events = json.loads(done.stdout)["events"]
    assert events > 0
    until(
        lambda: len(rows_of(taking, "rating_events", "event_key")),
        lambda count: count == events,
        within_s=SOON_S,
        what="the ratings in silver",
    )


def test_a_request_of_another_name_is_not_answered_with_the_token(taking: Stack) -> None:
    answer = requests.post(
        f"{taking.settings.intake_url}/api/v1/streams/shop/events",
        data=b'{"events": []}',
        headers={"content-type": "application/json", "origin": "http://evil.example"},
        timeout=30,
    )
    assert answer.status_code == 401
    assert "access-control-allow-origin" not in answer.headers
    asked = requests.options(f"{taking.settings.intake_url}/api/v1/streams/shop/events", timeout=30)
    assert asked.status_code == 405


def test_a_client_with_a_wrong_token_is_told_so(taking: Stack) -> None:
    from app.intake.client import IntakeError

    with pytest.raises(IntakeError, match="401: the token is missing or wrong"):
        Intake(taking.settings.intake_url, "x", "shop").post(numbered("no", range(1)), SOON_S)
