"""Prove that silver equals the source, row by row and column by column, while writes go on.

1. Pin: read the ledger, so that each table has a Delta version and the Kafka offsets that
   are exactly what was merged into it.
2. Snapshot: open a repeatable-read transaction on the source; it says which transactions
   it sees. All that was merged before was committed before, so the snapshot sees it.
3. Mark: commit a heartbeat and wait until Kafka shows it; then Kafka holds all that the
   snapshot sees, because the connector keeps the order of commits.
4. Predict: the pinned version's rows, plus the events behind the pinned offsets whose
   transactions the snapshot sees, folded by silver's own rules.
5. Compare the prediction with the snapshot's rows by digest, then name what differs.

A table that differs is looked at again with a fresh pin and snapshot, at most ROUNDS times;
only what still differs then is reported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from deltalake.exceptions import TableNotFoundError

from app.cli.printing import print_rows
from app.errors import HeadwaterError
from app.lake import tail
from app.lake.compare import Comparison, compare_bags, compare_keyed
from app.lake.lakehouse import Lakehouse, LedgerEntry, batch_rows
from app.lake.prediction import Prediction
from app.lake.snapshot import SourceSnapshot, open_snapshot, write_marker
from app.settings import Settings, load
from spark_streaming.canonical import SESSION_SETTINGS, canonical_row, source_select
from spark_streaming.catalog import read_contract
from spark_streaming.contract import Contract
from spark_streaming.envelope import HighWater
from spark_streaming.naming import silver_table

ROUNDS = 3
MARKER_WAIT_S = 60.0
TAIL_WAIT_S = 300.0
SOURCE_FETCH_ROWS = 10_000
COLUMNS = (
    "table",
    "verdict",
    "rows",
    "missing",
    "extra",
    "differing",
    "source_lsn",
    "delta_version",
    "seconds",
)


@dataclass
class Verdict:
    """What was found for one table: `comparison`, at source `lsn`, silver's Delta `version`.

    `refused` says why a table is not kept in silver at all; then there is no comparison.
    """

    table: str
    lsn: int = 0
    version: int | None = None
    seconds: float = 0.0
    rounds: int = 0
    comparison: Comparison = field(default_factory=Comparison)
    refused: str = ""

    @property
    def green(self) -> bool:
        return self.comparison.equal and not self.refused


def run_verify(tables: list[str], fmt: str) -> int:
    """Verify and print one row a table on stdout; what differs is named on stderr.

    Returns: 0 only where every table was compared and is equal.
    """
    settings = load()
    verdicts = Verifier(settings, lambda text: print(text, file=sys.stderr)).verify(tables)
    print_rows(COLUMNS, [_as_row(verdict) for verdict in verdicts], fmt)
    for verdict in verdicts:
        _explain(verdict)
    return 0 if all(verdict.green for verdict in verdicts) else 1


def _as_row(verdict: Verdict) -> tuple[Any, ...]:
    found = verdict.comparison
    word = "refused" if verdict.refused else "equal" if found.equal else "differs"
    lsn = f"{verdict.lsn >> 32:X}/{verdict.lsn & 0xFFFFFFFF:X}"
    counts = (found.rows, found.missing, found.extra, found.differing)
    return (verdict.table, word, *counts, lsn, verdict.version, round(verdict.seconds, 2))


def _explain(verdict: Verdict) -> None:
    if verdict.refused:
        print(f"{verdict.table}: {verdict.refused}", file=sys.stderr)
    for difference in verdict.comparison.differences:
        where = f"{verdict.table}: {difference.kind}: {difference.key}"
        if difference.column:
            where += (
                f": {difference.column} is {difference.source!r} in the source, "
                f"{difference.silver!r} in silver"
            )
        print(where, file=sys.stderr)


class Verifier:
    """Verifies tables of one stack."""

    def __init__(self, settings: Settings, note: Callable[[str], None]) -> None:
        self._settings = settings
        self._lake = Lakehouse(settings)
        self._note = note

    def verify(self, tables: list[str]) -> list[Verdict]:
        """Verify `tables` (silver's names; all the captured ones when empty), in name order.

        Raises: HeadwaterError where a part cannot be reached, or a table is not captured.
        """
        verdicts = {name: Verdict(name) for name in self._chosen(tables)}
        open_names = list(verdicts)
        for number in range(1, ROUNDS + 1):
            self._round(number, [verdicts[name] for name in open_names])
            open_names = [
                n for n in open_names if not verdicts[n].green and not verdicts[n].refused
            ]
            if not open_names:
                break
        return list(verdicts.values())

    def _chosen(self, tables: list[str]) -> list[str]:
        self._names = captured_tables(self._settings.capture_dsn)
        unknown = [table for table in tables if table not in self._names]
        if unknown:
            raise HeadwaterError(
                f"not captured: {', '.join(unknown)}",
                detail=f"the publication holds: {', '.join(sorted(self._names)) or 'no table'}",
                hint="`./headwater preflight` says why a table is left out",
            )
        return sorted(tables or self._names)

    def _round(self, number: int, verdicts: list[Verdict]) -> None:
        settings = self._settings
        consumer = tail.open_consumer(settings.kafka)
        try:
            pinned = self._lake.ledger()
            heartbeat = f"{settings.topic_prefix}.headwater.heartbeat"
            arrivals = tail.Arrivals(consumer, settings.topic_prefix, patience_s=MARKER_WAIT_S)
            if not tail.partitions(consumer, heartbeat):
                self._note("verify waits for the end of the first snapshot")
            places = tail.await_partitions(consumer, heartbeat, arrivals)
            consumer.assign(places)
            consumer.seek_to_end(*places)
            for place in places:
                consumer.position(place)
            with open_snapshot(settings.capture_dsn) as snapshot:
                marker = write_marker(settings.capture_dsn)
                tail.await_transaction(consumer, heartbeat, marker, arrivals)
                ends = {v.table: self._ends(consumer, v.table) for v in verdicts}
                for verdict in verdicts:
                    self._note(f"verify {verdict.table}" + (f", round {number}" * (number > 1)))
                    started = time.monotonic()
                    self._compare(verdict, snapshot, pinned.get(verdict.table), consumer, ends)
                    verdict.rounds = number
                    verdict.seconds = time.monotonic() - started
        finally:
            consumer.close()

    def _topic(self, table: str) -> str:
        schema, name = self._names[table]
        return f"{self._settings.topic_prefix}.{schema}.{name}"

    def _ends(self, consumer: Any, table: str) -> dict[int, int]:
        return tail.end_offsets(consumer, self._topic(table))

    def _compare(
        self,
        verdict: Verdict,
        snapshot: SourceSnapshot,
        pinned: LedgerEntry | None,
        consumer: Any,
        ends: dict[str, dict[int, int]],
    ) -> None:
        contract = read_contract(snapshot.connection, *self._names[verdict.table])
        if contract is None:
            raise HeadwaterError(f"table {verdict.table} was dropped while it was verified")
        if contract.refusal:
            verdict.refused = contract.refusal
            return
        topic = self._topic(verdict.table)
        start = pinned.offsets.get(topic, {}) if pinned else {}
        events = [
            event
            for event in tail.read_between(
                consumer, topic, start, ends[verdict.table], deadline_s=TAIL_WAIT_S
            )
            if (xid := tail.transaction_id(event)) is None or snapshot.visibility.sees(xid)
        ]
        version = pinned.delta_version if pinned else None
        if pinned and version is None:
            # Its newest batches found nothing to merge: what is there now is what was there.
            version = self._lake.newest_version(verdict.table)
        high_water = pinned.high_water if pinned else HighWater()
        prediction = Prediction(contract, self._scan(verdict.table, version), events, high_water)
        verdict.lsn, verdict.version = snapshot.lsn, version
        verdict.comparison = _compared(contract, snapshot, prediction)

    def _scan(
        self, table: str, version: int | None
    ) -> Callable[[list[str]], Iterator[dict[str, Any]]]:
        def scan(columns: list[str]) -> Iterator[dict[str, Any]]:
            if version is None:
                return
            try:
                held = set(self._lake.silver(table, version).schema().to_arrow().names)
            except TableNotFoundError:
                return
            present = [column for column in columns if column in held]
            for batch in self._lake.rows(table, version, present):
                for values in batch_rows(batch):
                    yield dict(zip(present, values, strict=True))

        return scan


def captured_tables(dsn: str) -> dict[str, tuple[str, str]]:
    """The publication's tables: silver's name → (schema, table); `headwater`'s own left out."""
    query = (
        "SELECT schemaname, tablename FROM pg_publication_tables "
        "WHERE pubname = 'headwater' AND schemaname <> 'headwater'"
    )
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        return {silver_table(*row): (row[0], row[1]) for row in connection.execute(query)}


def _compared(contract: Contract, snapshot: SourceSnapshot, prediction: Prediction) -> Comparison:
    columns = [column.name for column in contract.columns]

    def silver() -> Iterator[tuple[str | None, ...]]:
        for row in prediction.rows():
            yield canonical_row(contract, tuple(row.get(column) for column in columns))

    source = _source_rows(contract, snapshot.connection)
    if contract.key:
        positions = [columns.index(name) for name in contract.key]
        return compare_keyed(source, silver, columns, positions)
    return compare_bags(source, silver, columns)


def _source_rows(
    contract: Contract, connection: psycopg.Connection[tuple[object, ...]]
) -> Iterator[tuple[str | None, ...]]:
    for statement in SESSION_SETTINGS:
        connection.execute(statement)
    with connection.cursor(name="headwater_verify") as cursor:
        cursor.itersize = SOURCE_FETCH_ROWS
        cursor.execute(source_select(contract).encode())
        for row in cursor:
            yield tuple(None if value is None else str(value) for value in row)
