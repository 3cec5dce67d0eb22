"""Traces the versions of a row from the source's log to Trino: `headwater trace TABLE KEY`.

1. Read the table's key from its contract in the lake, without the source.
2. At the same time, read silver's tables (ledger, quarantine, the row), query the row in Trino, and
   connect to Kafka.
3. Search bronze backwards for the key's events (`trace_scan`).
4. Read the events after bronze's end from Kafka.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from kafka.errors import KafkaError

from app.environment.settings import Settings, load
from app.errors import HeadwaterError
from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse
from app.lake.quarantine_access import entry_name, place_named
from app.printing import print_rows
from app.trace.trace_event import is_of_all_rows, lsn_of, op_of
from app.trace.trace_key import RowKey, images_of, parse_key
from app.trace.trace_scan import Found, Scan, Skip, in_order, scan, without_idle_ends
from app.trace.trace_silver import Batch, DeltaFiles, Known, Row, ask_trino, known_of
from app.trace.trace_version import (
    COLUMNS,
    HOP_COLUMNS,
    NOW,
    Version,
    named_failures,
    version_of,
    with_other_key,
)
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.lsn import Lsn, lsn_text
from spark_streaming.contract.names import topic_of
from spark_streaming.events.event import Place, RawEvent
from spark_streaming.quarantine.quarantined_rows import place_of
from spark_streaming.reading.bronze import Bronze
from spark_streaming.rules.contract_folder import ContractFolder

LIMIT = 20
SCAN_S = 3.0
TAIL_S = 2.0
WRITES = frozenset("cur")  # the operations that write a row


@dataclass
class Trace:
    """A row's versions, the oldest first; the last one is Trino's answer.

    `notes` list unread parts, and how to continue.
    """

    table: str
    key: str
    versions: list[Version] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run_trace(
    table: str, key: str, fmt: str, limit: int, before: Sequence[str], seconds: float
) -> None:
    """Trace a row and print it: as a table a line for each hop, as CSV or JSON a record per version.

    Raises: HeadwaterError if the table is not known or has no key, if the text is not a key of it,
    or if no event of such a row was found.
    """
    traced = trace(load(), table, key, limit=limit, before=before, seconds=seconds)
    if fmt == "table":
        rows = [
            hop
            for number, version in enumerate(traced.versions, 1)
            for hop in version.hops(NOW if version.event == NOW else number)
        ]
        print_rows(HOP_COLUMNS, rows, fmt)
    else:
        print_rows(COLUMNS, [version.as_row() for version in traced.versions], fmt)
    for note in traced.notes:
        print(note, file=sys.stderr)


def trace(
    settings: Settings,
    table: str,
    key: str,
    *,
    limit: int = LIMIT,
    before: Sequence[str] = (),
    seconds: float = SCAN_S,
) -> Trace:
    """Trace one row.

    Args:
        table: silver's name, or `schema.table`.
        key: see `trace_key.parse_key`.
        limit: how many versions to show, beginning with the newest.
        before: TOPIC/PARTITION/OFFSET of one or more partitions: search only before these.
        seconds: the time for the search in bronze.
    Raises: HeadwaterError, see `run_trace`.
    """
    lake = Lakehouse(settings)
    with named_failures():
        contract = contract_of(lake, table)
        return _Tracer(settings, lake, contract, parse_key(contract, key)).run(
            limit, before, seconds
        )


class _Tracer:
    def __init__(
        self, settings: Settings, lake: Lakehouse, contract: Contract, key: RowKey
    ) -> None:
        self._settings = settings
        self._lake = lake
        self._contract = contract
        self._key = key
        self._table = lake.names.of(contract.schema, contract.table)
        self._topic = topic_of(settings.topic_prefix, contract.schema, contract.table)
        self._bronze = Bronze(lake.bronze_files())
        self._files = DeltaFiles(lake.lake, self._table, key)
        self._result = Trace(self._table, str(key))
        self._cut: dict[int, int] = {}
        self._masks_known = True
        self._masked = self._masked_columns()

    def run(self, limit: int, before: Sequence[str], seconds: float) -> Trace:
        masked_key = self._masks_known and any(
            column.source_name in self._masked for column in self._key.columns
        )
        with ThreadPoolExecutor(3) as pool:
            answer = None if masked_key else pool.submit(self._ask_trino)
            kafka = None if before else pool.submit(self._kafka)
            known = pool.submit(known_of, self._lake.lake, self._table, self._key, self._topic)
            silver = known.result()
            scans = self._search(limit, before, time.monotonic() + seconds, silver)
            consumer = kafka.result() if kafka else None
            found = [one for searched in scans.values() for one in searched.found]
            if kafka is not None and consumer is None:
                self._note(
                    "Kafka does not answer: events that bronze does not have yet are not shown"
                )
            if consumer is not None:
                with closing(consumer):
                    found += self._tail(consumer, {p: s.end for p, s in scans.items()})
            versions = self._versions(found, silver, limit)
            now = self._now(*answer.result(), silver.row) if answer else None
        if masked_key:
            self._note("the key is masked in silver, so the row is not queried in Trino")
        self._check(versions, now, scans)
        self._result.versions = versions + ([now] if now else [])
        return self._result

    def _note(self, text: str) -> None:
        self._result.notes.append(text)

    def _ask_trino(self) -> tuple[dict[str, Any] | None, str]:
        try:
            settings = self._settings
            return ask_trino(settings.trino_url, settings.silver_schema, self._table, self._key), ""
        except HeadwaterError as error:
            return None, f"{error.message}{': ' + error.detail if error.detail else ''}"

    def _kafka(self) -> Any:
        try:
            return tail.open_consumer(self._settings.kafka)
        except HeadwaterError:
            return None

    def _search(
        self, limit: int, before: Sequence[str], deadline: float, silver: Known
    ) -> dict[int, Scan]:
        """Search bronze: partition -> result.

        All partitions of the topic are searched, beginning with the one that the producer uses for
        the key, because the newest events are there. Older events may be in other partitions (the
        topic had fewer then), and a TRUNCATE may be in any.
        """
        count = max([*self._bronze.partitions(self._topic), 0]) + 1
        below = {place.partition: place.offset for place in map(self._place, before)}
        skip = None if below else self._skip(silver)
        scans: dict[int, Scan] = {}
        since_ms: int | None = None
        for partition in list(below) or self._key.partitions(count):
            scans[partition] = result = scan(
                self._bronze,
                self._topic,
                partition,
                self._key,
                limit=limit,
                deadline=deadline,
                before=below.get(partition),
                since_ms=since_ms,
                skip=skip,
            )
            own = [one.event for one in result.found if not is_of_all_rows(one.event)]
            if len(own) >= limit:  # older versions are not shown
                since_ms = max(since_ms or 0, min(event.timestamp_ms for event in own[:limit]))
        return scans

    def _place(self, name: str) -> Place:
        place = place_named(name)
        if place is None or place.topic != self._topic:
            raise HeadwaterError(
                f"`{name}` is not a place in this table's topic",
                hint=f"--before {self._topic}/PARTITION/OFFSET, as a trace prints it",
            )
        return place

    def _skip(self, silver: Known) -> Skip | None:
        if silver.row is None:
            return None
        quarantined: dict[int, list[int]] = {}
        for entry in silver.quarantined:
            quarantined.setdefault(entry.partition, []).append(entry.offset)
        merged_ms = int(silver.row.merged_at.timestamp() * 1000)
        return Skip(merged_ms, silver.batches.merged_to(self._topic), quarantined)

    def _tail(self, consumer: Any, ends: dict[int, int]) -> list[Found]:
        """Read the key's events that bronze does not have yet from Kafka."""
        try:
            to = tail.end_offsets(consumer, self._topic)
            # A partition without objects in bronze may have just begun.
            known = set(self._bronze.partitions(self._topic))
            wanted = {p: end for p, end in to.items() if p in ends or p not in known}
            ended = {partition: ends.get(partition, 0) for partition in wanted}
            start = tail.behind_marker(consumer, self._topic, ended)
            events = tail.read_between(consumer, self._topic, start, wanted, deadline_s=TAIL_S)
            return [Found(event) for event in events if self._is_own(event)]
        except (HeadwaterError, KafkaError) as error:
            self._note(
                f"events that bronze does not have yet could not be read from Kafka: {error}"
            )
            return []

    def _is_own(self, event: RawEvent) -> bool:
        return event.value is not None and (
            self._key.owns(event.key, event.value) or is_of_all_rows(event)
        )

    def _versions(self, found: Sequence[Found], silver: Known, limit: int) -> list[Version]:
        kept = self._newest(found, limit)
        puts = {path: self._bronze.put_at(path) for path in {one.path for one in kept if one.path}}
        newest = self._in_silver(kept, silver.row, silver.quarantined)
        merged_to = silver.batches.merged_to(self._topic)
        versions = []
        for one in kept:
            event = one.event
            batch = silver.batches.of(event.topic, event.partition, event.offset)
            entry = silver.quarantined.get(place_of(event))
            merged = event.offset < merged_to.get(event.partition, 0) or batch is not None
            is_newest = one is newest
            version = version_of(
                one,
                store=self._settings.store,
                put_at=puts.get(one.path),
                batch=batch,
                data_file=self._data_file(one, batch, entry),
                row=silver.row if is_newest else None,
                state=_state(self._writes(one), entry, batch, merged, is_newest),
                masked=self._masked,
            )
            versions.append(with_other_key(version, event, self._key, self._masked))
        return versions

    def _newest(self, found: Sequence[Found], limit: int) -> list[Found]:
        """Return the newest `limit` events with the TRUNCATEs among them, the oldest first."""
        ordered = without_idle_ends(in_order(found))
        own = [number for number, one in enumerate(ordered) if not is_of_all_rows(one.event)]
        # A TRUNCATE before the row's first event did not concern it.
        kept = ordered[own[max(0, len(own) - limit)] :] if own else []
        if len(own) > limit:
            first = {one.event.partition: one.event.offset for one in reversed(kept)}
            for one in ordered[: own[-limit]]:
                partition, offset = one.event.partition, one.event.offset
                self._cut[partition] = first.get(partition, offset + 1)
        return kept

    def _in_silver(
        self, found: Sequence[Found], row: Row | None, quarantined: Mapping[Place, str]
    ) -> Found | None:
        """Return the event whose values silver has now; None if it was not found."""
        if row is None:
            return None
        fitting = [
            one
            for one in found
            if self._writes(one)
            and lsn_of(one.event) == row.lsn
            and place_of(one.event) not in quarantined
        ]
        return fitting[-1] if fitting else None

    def _writes(self, one: Found) -> bool:
        """Check whether an event writes the row; an update to another key removes it."""
        if op_of(one.event) not in WRITES:
            return False
        return not self._key.in_rows or self._key.is_of(images_of(one.event.value)[1])

    def _data_file(self, one: Found, batch: Batch | None, entry: str | None) -> str | None:
        if entry is not None or batch is None or batch.delta_version is None:
            return None
        if not self._writes(one):
            return None
        return self._files.of(batch.delta_version)

    def _now(self, row: dict[str, Any] | None, error: str, in_silver: Row | None) -> Version:
        now = Version(NOW, state=f"not known: {error}" if error else "no such row")
        if row is None:
            return now
        lsn, committed = row.pop("_lsn", None), row.pop("_committed_at", None)
        row.pop("_merged_at", None)
        now = replace(now, state="the row", row=row, committed_at=committed)
        if lsn is not None:
            now = replace(now, lsn=lsn_text(Lsn(int(lsn))))
        if in_silver is not None and in_silver.lsn == lsn:
            now = replace(now, delta_version=in_silver.version, data_file=in_silver.file)
        return now

    def _check(self, versions: list[Version], now: Version | None, scans: dict[int, Scan]) -> None:
        """Record the end of the search. Raises: HeadwaterError if nothing of the row was found."""
        stopped = {p: s.reached for p, s in scans.items() if s.reached is not None}
        # Versions that `limit` left out have to be searched again.
        places = [Place(self._topic, p, at) for p, at in sorted({**stopped, **self._cut}.items())]
        go_on = [f"--before {entry_name(place)}" for place in places]
        if not versions and (now is None or now.row is None):
            raise HeadwaterError(
                f"no event of {self._table} with {self._key} was found",
                detail="; ".join(
                    f"offsets from {r} of partition {p} on" for p, r in stopped.items()
                )
                or "all of bronze was searched",
                hint=f"continue with {' '.join(go_on)}, or give more --seconds" if go_on else "",
            )
        if go_on:
            self._note(
                f"older versions were not searched for; continue with {' '.join(go_on)}"
                ", or with a greater --limit or more --seconds"
            )

    def _masked_columns(self) -> frozenset[str]:
        folder = ContractFolder(
            self._settings.contracts_folders, self._settings.secret("mask_secret").encode()
        )
        try:
            masks = folder.rules_of(self._contract).masks
        except ContractFileError as error:
            self._note(f"values are left out: the contract file is wrong ({error})")
            self._masks_known = False
            return frozenset(column.source_name for column in self._contract.columns)
        return frozenset(self._contract.by_name[name].source_name for name in masks)


def _state(writes: bool, entry: str | None, batch: Batch | None, merged: bool, newest: bool) -> str:
    if entry is not None:
        return f"quarantine, {entry}"
    if newest:
        return "in silver"
    if not merged:
        return "not merged yet"
    if batch is not None and batch.delta_version is None:
        return "nothing merged"  # for example if a later event of the batch went to quarantine
    return "merged" if writes else "removed"


def contract_of(lake: Lakehouse, table: str) -> Contract:
    """Read the newest contract of a table from the lake, by silver's or the source's name.

    Raises: HeadwaterError if there is none.
    """
    table = lake.silver_name(table)
    store = ContractStore(lake.lake, "")
    known = {lake.names.of(*name): name for name in store.tables()}
    source = known.get(table)
    contract = store.latest(*source) if source else None
    if contract is None:
        raise HeadwaterError(
            f"there is no table `{table}` in the lake",
            detail=f"there are {', '.join(sorted(known)) or 'none yet'}",
        )
    return contract
