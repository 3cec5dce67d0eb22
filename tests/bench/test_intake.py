"""The intake's events a second, the time that a sender waits, and the time until silver has the events.

Kafka, the object store, `intake` and `streams` run; the senders are threads of a separate process.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from app.intake.client import event
from app.lake.lakehouse import Lakehouse
from tests.support.intake import intake_of, rows_of
from tests.support.measure import report, watched
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SENDERS = 4
BATCH = 500
SECONDS = 20.0
MESSAGE = "x" * 120


@pytest.fixture(scope="module")
def taking() -> Iterator[Stack]:
    with fresh_stack() as fresh:
        fresh.up("--only", "intake")
        yield fresh


def test_events_a_second_from_http_to_silver(taking: Stack) -> None:
    waits: list[float] = []
    taken: list[int] = []
    stop = threading.Event()

    def send(number: int) -> None:
        intake = intake_of(taking, "app_logs")
        count = 0
        while not stop.is_set():
            data = {"service": f"bench-{number}", "level": "INFO", "message": MESSAGE}
            batch = [event(data, key=f"{number}-{count + n}") for n in range(BATCH)]
            began = time.monotonic()
            assert intake.post(batch, 60).accepted == BATCH
            waits.append(time.monotonic() - began)
            count += BATCH
        taken.append(count)

    with watched(taking) as resources:
        began = time.monotonic()
        senders = [threading.Thread(target=send, args=(n,)) for n in range(SENDERS)]
        for sender in senders:
            sender.start()
        stop.wait(SECONDS)
        stop.set()
        for sender in senders:
            sender.join()
        sent_s = time.monotonic() - began
        events = sum(taken)
        lake = Lakehouse(taking.settings).lake
        until(
            lambda: lake.table("silver/app_logs").to_pyarrow_dataset().count_rows(),
            lambda count: count >= events,
            within_s=300,
            what="all events in silver",
            every_s=0.5,
        )
        silver_s = time.monotonic() - began
    keys = [row["event_key"] for row in rows_of(taking, "app_logs", "event_key")]
    assert sorted(keys) == sorted(f"{n}-{k}" for n, c in enumerate_counts(keys) for k in range(c))
    assert len(keys) == events
    report(
        "intake",
        {
            "events": events,
            "events_a_second": round(events / sent_s),
            "batch_events": BATCH,
            "request_ms_p50": round(statistics.median(waits) * 1000),
            "request_ms_p95": round(statistics.quantiles(waits, n=20)[-1] * 1000),
            "silver_behind_the_last_answer_s": round(silver_s - sent_s, 1),
            "resources": resources.as_dict(),
        },
    )


def enumerate_counts(keys: list[str]) -> list[tuple[int, int]]:
    """(sender, number of its keys)."""
    counts: dict[int, int] = {}
    for key in keys:
        number = int(key.partition("-")[0])
        counts[number] = counts.get(number, 0) + 1
    return sorted(counts.items())
