"""One instant at which source and silver are compared, while both move on.

1. Pin: read the ledger, so that each table has a Delta version and the Kafka offsets that
   are exactly what was merged into it.
2. Snapshot: open a repeatable-read transaction on the source; it says which transactions
   it sees. All that was merged before was committed before, so the snapshot sees it.
3. Mark: commit a heartbeat and wait until Kafka shows it; then Kafka holds all that the
   snapshot sees, because the connector keeps the order of commits.
4. Predict: the pinned version's rows, plus the events behind the pinned offsets whose
   transactions the snapshot sees, folded by silver's own rules.

Where silver is far behind, step 4 would hold too many events: then the instant is given up and
tried again when silver has caught up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
from deltalake import DeltaTable

from app.errors import HeadwaterError
from app.lake import tail
from app.lake.excuses import NOTHING_EXCUSED, Excuses, excuses_of
from app.lake.lakehouse import Lakehouse, LedgerEntry
from app.lake.prediction import Prediction
from app.lake.silver_rows import SilverRows
from app.lake.snapshot import SourceSnapshot, open_snapshot, write_marker
from app.settings import Settings
from spark_streaming.catalog import read_contract
from spark_streaming.contract import Contract
from spark_streaming.contract_files import ContractFileError
from spark_streaming.envelope import HighWater, RawEvent
from spark_streaming.masks import expected_in_silver
from spark_streaming.naming import topic_of
from spark_streaming.position import lsn_text
from spark_streaming.quality import ContractFolder, treat
from spark_streaming.rules import TableRules
from spark_streaming.stopped import FAILING, STOPPED

MARKER_WAIT_S = 60.0
TAIL_WAIT_S = 300.0
TAIL_EVENTS_MAX = 100_000
TAIL_BYTES_MAX = 256 << 20
CATCH_UP_PATIENCE_S = 300.0
# Two heartbeats are most often merged within half a second: the first looks are soon.
CATCH_UP_LOOKS_S = (0.2, 0.2, 0.3, 0.5, 1.0)
# A wait that is over within seconds is not worth a line.
LOOKS_BEFORE_A_NOTE = 6

SourceName = tuple[str, str]


@dataclass
class TableAtInstant:
    """One table at the instant.

    Args:
        contract: as the source's catalog says now.
        oid: the table in the source: another one when it was dropped and made again.
        silver: what is pinned; None where silver has nothing of it yet.
        version: silver's Delta version.
        rows_about: how many rows silver has.
        prediction: what silver must hold; None where the table is refused, or was stopped so
            long ago that too many events stand behind it.
        expect: what masks and empty texts, as its contract file declares them, make of a row of
            the source (canonical texts); None: nothing.
        masked: the masked columns.
        excuses: reads what quarantine has of the table.
        generation: the rebuild that silver's rows come from.
    """

    contract: Contract
    oid: int
    silver: DeltaTable | None
    version: int | None
    rows_about: int
    prediction: Prediction | None
    expect: Callable[[Sequence[str | None]], tuple[str | None, ...]] | None = None
    masked: frozenset[str] = frozenset()
    excuses: Callable[[], Excuses] = lambda: NOTHING_EXCUSED
    generation: str = ""

    @property
    def table_id(self) -> str:
        """Which Delta table it is; a rebuilt one is another."""
        return "" if self.silver is None else f"{self.silver.metadata().id}{self.generation}"


class Instant:
    """What `open_instant` opened; valid until it is left."""

    def __init__(
        self,
        settings: Settings,
        lake: Lakehouse,
        names: Mapping[str, SourceName],
        consumer: Any,
        snapshot: SourceSnapshot,
    ) -> None:
        self.snapshot = snapshot
        self.lsn = snapshot.lsn
        self._settings = settings
        self._files = ContractFolder(
            settings.contracts_folders, settings.secret("mask_secret").encode()
        )
        self._lake = lake
        self._names = names
        self._consumer = consumer
        self._opened = time.monotonic()
        self.pinned: dict[str, LedgerEntry] = {}
        self.ends: dict[str, dict[int, int]] = {}

    @property
    def connection(self) -> psycopg.Connection[tuple[object, ...]]:
        """The snapshot's transaction."""
        return self.snapshot.connection

    @property
    def age_s(self) -> float:
        """For how long the source has been kept from cleaning up behind it."""
        return time.monotonic() - self._opened

    def events_behind(self, table: str) -> int:
        """By how many offsets silver is behind; 0 for a table that it does not go on with."""
        found = self._offsets_behind(table)
        if found > TAIL_EVENTS_MAX:
            entry = self.pinned.get(table)
            if entry is not None and entry.state in (STOPPED, FAILING):
                return 0
            contract = read_contract(self.connection, *self._names[table])
            if contract is None or contract.refusal:
                return 0
        return found

    def _offsets_behind(self, table: str) -> int:
        start = self._start(table)
        return sum(max(0, to - start.get(p, 0)) for p, to in self.ends[table].items())

    def table(self, name: str) -> TableAtInstant:
        """Read what is known of one table, and predict its rows.

        Raises: HeadwaterError where the table was dropped, or Kafka does not give its events.
        """
        schema, table = self._names[name]
        contract = read_contract(self.connection, schema, table)
        if contract is None:
            raise HeadwaterError(f"table {name} was dropped while it was verified")
        oid = _oid(self.connection, contract)
        if contract.refusal or self._offsets_behind(name) > TAIL_EVENTS_MAX:
            return TableAtInstant(contract, oid, None, None, 0, None)
        pinned = self.pinned.get(name)
        held = self._lake.pinned(pinned) if pinned else None
        version = int(held.version()) if held is not None else None
        contract = contract.with_texts(_texts(held, self._files.texts_of(schema, table)))
        silver = SilverRows(held, contract)
        high_water = pinned.high_water if pinned else HighWater()
        rules, secret = self._rules(contract), self._files.mask_secret
        prediction = Prediction(
            contract,
            silver,
            self._events(name),
            high_water,
            lambda changes: treat(changes, rules, secret)[1],
        )
        expect = None
        if rules.treats_values:
            expect = expected_in_silver(contract, rules.empty_to_null, rules.masks, secret)
        masked = frozenset(rules.masks)

        def excuses() -> Excuses:
            return excuses_of(
                contract,
                self._lake.quarantined(name),
                lambda changes: treat(changes, rules, secret)[1],
                expect or tuple,
            )

        return TableAtInstant(
            contract,
            oid,
            held,
            version,
            silver.rows,
            prediction,
            expect,
            masked,
            excuses,
            pinned.generation if pinned else "",
        )

    def _rules(self, contract: Contract) -> TableRules:
        try:
            return self._files.rules_of(contract)
        except ContractFileError as error:
            raise HeadwaterError(
                f"the contract file of {contract.schema}.{contract.table} is wrong",
                detail=str(error),
                hint="what silver should hold is not known; see `./headwater contract check`",
            ) from error

    def _start(self, table: str) -> dict[int, int]:
        pinned = self.pinned.get(table)
        return pinned.offsets.get(self.topic(table), {}) if pinned else {}

    def topic(self, table: str) -> str:
        """The Kafka topic of a table."""
        return topic_of(self._settings.topic_prefix, *self._names[table])

    def _events(self, table: str) -> list[RawEvent]:
        """The events behind the pinned offsets that the snapshot sees."""
        found, size = [], 0
        for event in tail.read_between(
            self._consumer,
            self.topic(table),
            self._start(table),
            self.ends[table],
            deadline_s=TAIL_WAIT_S,
        ):
            xid = tail.transaction_id(event)
            if xid is not None and not self.snapshot.visibility.sees(xid):
                continue
            found.append(event)
            size += len(event.value or b"")
            if size > TAIL_BYTES_MAX:
                raise HeadwaterError(
                    f"silver is too far behind to verify {table}",
                    detail=f"more than {TAIL_BYTES_MAX >> 20} MiB of events are not merged yet",
                    hint="run it again when `./headwater sql 'SELECT * FROM ops.freshness'` is low",
                )
        return found


@contextmanager
def open_instant(
    settings: Settings,
    lake: Lakehouse,
    names: Mapping[str, SourceName],
    tables: list[str],
    note: Callable[[str], None],
) -> Iterator[Instant]:
    """Hold one instant for comparing `tables` (silver's names, all of them in `names`).

    Raises: HeadwaterError where a part cannot be reached, or silver does not catch up.
    """
    patience = _Patience()
    consumer = tail.open_consumer(settings.kafka)
    try:
        while True:
            with _marked(settings, lake, names, tables, consumer, note) as instant:
                late = {t: n for t in tables if (n := instant.events_behind(t)) > TAIL_EVENTS_MAX}
                if not late:
                    yield instant
                    return
            told = ", ".join(f"{table} by {count:,}" for table, count in sorted(late.items()))
            patience.wait(sum(late.values()), f"{told} events", note)
    finally:
        consumer.close()


@contextmanager
def _marked(
    settings: Settings,
    lake: Lakehouse,
    names: Mapping[str, SourceName],
    tables: list[str],
    consumer: Any,
    note: Callable[[str], None],
) -> Iterator[Instant]:
    pinned = lake.ledger()
    heartbeat = topic_of(settings.topic_prefix, "headwater", settings.own_table("heartbeat"))
    arrivals = tail.Arrivals(consumer, settings.topic_prefix, patience_s=MARKER_WAIT_S)
    if not tail.partitions(consumer, heartbeat):
        note("verify waits for the end of the first snapshot")
    places = tail.await_partitions(consumer, heartbeat, arrivals)
    consumer.assign(places)
    consumer.seek_to_end(*places)
    for place in places:
        consumer.position(place)
    with open_snapshot(settings.capture_dsn) as snapshot:
        marker = write_marker(settings.capture_dsn, settings.own_table("heartbeat"))
        tail.await_transaction(consumer, heartbeat, marker, arrivals)
        instant = Instant(settings, lake, names, consumer, snapshot)
        instant.pinned = pinned
        instant.ends = {t: tail.end_offsets(consumer, instant.topic(t)) for t in tables}
        yield instant


def await_complete(
    settings: Settings, lake: Lakehouse, lsn: int, note: Callable[[str], None]
) -> None:
    """Return when silver is complete to `lsn`: what was compared is then what Trino answers.

    Silver knows a position to be complete when a batch has followed the one that brought it, so
    heartbeats are committed meanwhile. Raises: HeadwaterError where silver does not come nearer.
    """
    patience = _Patience()
    while (complete := lake.complete_lsn()) < lsn:
        write_marker(settings.capture_dsn, settings.own_table("heartbeat"))
        patience.wait(lsn - complete, f"at {lsn_text(complete)} of {lsn_text(lsn)}", note)


class _Patience:
    """Waits for silver as long as it gets nearer."""

    def __init__(self) -> None:
        self._least: int | None = None
        self._waits = 0
        self._nearer_at = time.monotonic()

    def wait(self, behind: int, told: str, note: Callable[[str], None]) -> None:
        """Rest a moment; silver is behind by `behind` of whatever is counted.

        Raises: HeadwaterError where silver has not come nearer for CATCH_UP_PATIENCE_S.
        """
        now = time.monotonic()
        if self._waits == LOOKS_BEFORE_A_NOTE:
            note(f"verify waits for silver, which is behind: {told}")
        if self._least is None or behind < self._least:
            self._least, self._nearer_at = behind, now
        elif now - self._nearer_at > CATCH_UP_PATIENCE_S:
            raise HeadwaterError(
                f"silver has not come nearer for {CATCH_UP_PATIENCE_S:.0f} s",
                detail=f"behind: {told}",
                hint="`./headwater status silver`; verify again when it has caught up",
            )
        time.sleep(CATCH_UP_LOOKS_S[min(self._waits, len(CATCH_UP_LOOKS_S) - 1)])
        self._waits += 1


def _texts(held: DeltaTable | None, chosen: frozenset[str]) -> frozenset[str]:
    """The columns that may be text by choice: as silver has them, for it follows a moment later."""
    if held is None:
        return chosen
    fields = pa.schema(held.schema().to_arrow())
    return frozenset(field.name for field in fields if str(field.type).endswith("string"))


def _oid(connection: psycopg.Connection[tuple[object, ...]], contract: Contract) -> int:
    row = connection.execute(
        "SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        [contract.schema, contract.table],
    ).fetchone()
    return int(str(row[0])) if row is not None else 0
