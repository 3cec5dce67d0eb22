"""Probes: a row that is changed in the source and observed at each hop.

Every 15 s a transaction of the exporter increments `beat` in the heartbeat row. Kafka's time is
that of the record, silver's is the end of the batch in the ledger. Bronze and Trino are polled, so
their times are upper bounds. A probe that a hop does not have yet counts as waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import requests
import trino.exceptions

from app.hops import PROBED
from app.metrics.board import Board
from app.metrics.collectors.carriage import Kafka, Place
from app.metrics.collectors.silver_ledger import SilverState
from app.metrics.collectors.source_wal import SourceSession
from app.query.trino_connection import connect

SEND_EVERY_S = 15.0
POLL_EVERY_S = 1.0
# Poll less often for an old probe: an error of a tenth of its age does not matter.
POLL_SHARE_OF_AGE = 0.1
BRONZE_EVERY_S = 2.0  # as often as the sink commits its offsets
# A query in Trino costs ten times as much as the other hops, so only one probe in four waits for it.
TRINO_EVERY = 4
WAITING_MAX = 40
_TRINO = (
    "SELECT 1 FROM lake.ops.ledger WHERE table_name = '' AND merged_at >= TIMESTAMP '{}' LIMIT 1"
)


@dataclass
class Probe:
    """One committed probe; `committed_at` in Unix seconds, `waits_for` the hops to come."""

    beat: int
    committed_at: float
    waits_for: set[str]
    place: Place | None = None
    offset: int = -1
    merged_at: datetime | None = field(default=None)


class ProbeCollector:
    """Sends probes and observes them at each hop."""

    name = "probe"
    share = 0.004

    def __init__(
        self,
        source: SourceSession,
        kafka: Kafka,
        silver: SilverState,
        trino_url: str,
        board: Board,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._kafka = kafka
        self._silver = silver
        self._trino_url = trino_url
        self._trino: Any = None
        self._board = board
        self._clock = clock
        self._probes: list[Probe] = []
        self._sent = 0
        self._sent_at = 0.0
        self._bronze_at = 0.0

    @property
    def period_s(self) -> float:
        """Short while a probe is under way; otherwise the time until the next one is due."""
        now = self._clock()
        next_sent = max(0.1, self._sent_at + SEND_EVERY_S - now)
        ages = [now - probe.committed_at for probe in self._probes if probe.waits_for]
        if not ages:
            return next_sent
        return min(next_sent, max(POLL_EVERY_S, min(ages) * POLL_SHARE_OF_AGE))

    def collect(self) -> None:
        try:
            # Send probes also while Kafka is down: a probe that does not arrive shows the failure.
            if self._kafka.heartbeats_read and self._clock() >= self._sent_at + SEND_EVERY_S:
                self._send()
            self._kafka.follow_heartbeats()
            self._poll()
        finally:
            # Also while a hop does not answer, so that the age of waiting probes grows.
            self._export()

    def reset(self) -> None:
        self._kafka.close()
        self._source.close()
        self._trino = None

    def _send(self) -> None:
        # Set before the attempt, so that after a failed one the next waits for the period, too.
        self._sent_at = self._clock()
        beat = self._source.send_probe()
        if beat is None:
            return
        hops = set(PROBED)
        if self._sent % TRINO_EVERY:
            hops.discard("trino")
        self._sent += 1
        self._board.set("headwater_probe_sent", self._sent)
        self._probes = [*self._probes[-WAITING_MAX + 1 :], Probe(beat, self._clock(), hops)]

    def _poll(self) -> None:
        self._poll_kafka()
        waiting = [probe for probe in self._probes if probe.waits_for and probe.place]
        if any("silver" in probe.waits_for for probe in waiting):
            self._silver.refresh()
            for probe in waiting:
                self._check_silver(probe)
        asked = self._clock() >= self._bronze_at + BRONZE_EVERY_S
        if asked and any("bronze" in probe.waits_for for probe in waiting):
            self._bronze_at = self._clock()
            stored = self._kafka.bronze()
            for probe in waiting:
                there = probe.place is not None and stored.get(probe.place, 0) > probe.offset
                if there and "bronze" in probe.waits_for:
                    self._seen(probe, "bronze", self._clock())
        for probe in waiting:
            if "trino" in probe.waits_for and probe.merged_at and self._in_trino(probe.merged_at):
                self._seen(probe, "trino", self._clock())
        self._probes = [probe for probe in self._probes if probe.waits_for]

    def _poll_kafka(self) -> None:
        by_beat = {probe.beat: probe for probe in self._probes if probe.place is None}
        for place, record in self._kafka.heartbeats():
            event: dict[str, Any] = orjson.loads(record.value) if record.value else {}
            probe = by_beat.get((event.get("after") or {}).get("beat", -1))
            if probe is not None:
                probe.place, probe.offset = place, record.offset
                self._seen(probe, "kafka", record.timestamp / 1000)

    def _check_silver(self, probe: Probe) -> None:
        assert probe.place is not None
        if "silver" not in probe.waits_for:
            return
        at = self._silver.merged_at(probe.place, probe.offset)
        if at is not None:
            probe.merged_at = at
            self._seen(probe, "silver", at.timestamp())

    def _in_trino(self, merged_at: datetime) -> bool:
        if self._trino is None:
            self._trino = connect(
                self._trino_url, source="headwater-metrics", request_timeout=10, max_attempts=1
            )
        moment = merged_at.strftime("%Y-%m-%d %H:%M:%S.%f UTC")
        try:
            cursor = self._trino.cursor()
            cursor.execute(_TRINO.format(moment))
            return bool(cursor.fetchall())
        except (trino.exceptions.Error, requests.RequestException, OSError):
            # The probe's age grows, and a separate alert reports that Trino is down.
            self._trino = None
            return False

    def _seen(self, probe: Probe, hop: str, at: float) -> None:
        probe.waits_for.discard(hop)
        self._board.probe_seconds.labels(hop).observe(max(0.0, at - probe.committed_at))

    def _export(self) -> None:
        now = self._clock()
        for hop in PROBED:
            ages = [now - p.committed_at for p in self._probes if hop in p.waits_for]
            self._board.put("headwater_probe_waiting_seconds", (hop,), max(ages, default=0.0))
