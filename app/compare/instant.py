"""Opens one instant at which source and silver are compared while both are being written.

1. Pin: read the ledger. It gives each table's Delta version and exactly the Kafka offsets that
   were merged into it.
2. Snapshot: open a repeatable-read transaction on the source and ask which transactions it sees.
   It sees all events merged in step 1, because they were committed before.
3. Mark: commit a heartbeat and wait until Kafka delivers it. Then Kafka has all that the snapshot
   sees, because the connector keeps the order of commits. Also wait until Kafka delivers all that
   it has: it hides the records of open transactions and everything after them.
4. Predict: take the pinned rows and fold in, by silver's own rules, the events after the pinned
   offsets whose transactions the snapshot sees.

If silver is far behind, step 4 would hold too many events: then the instant is closed, and a new
one is opened when silver has caught up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
from deltalake import DeltaTable

from app.compare.explained import NO_EXPLANATIONS, Explanations, read_explanations
from app.compare.prediction import Prediction
from app.compare.silver_rows import SilverRows
from app.compare.snapshot import SourceSnapshot, open_snapshot, write_marker
from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse, LedgerEntry
from app.lake.patience import Patience, Waits, behind_text
from spark_streaming.capture_choice import Choice
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.contract.lsn import Lsn, lsn_text
from spark_streaming.contract.masks import expected_in_silver
from spark_streaming.contract.names import topic_of
from spark_streaming.contract.source_catalog import read_contract
from spark_streaming.contract.table_share import TableShare
from spark_streaming.events.envelope import HighWater, RawEvent
from spark_streaming.events.event import Changes
from spark_streaming.ops.stopped import FAILING, STOPPED
from spark_streaming.reading.written_ends import WrittenEnds
from spark_streaming.rules.contract_folder import ContractFolder, treat
from spark_streaming.rules.rules import TableRules

MARKER_WAIT_S = 60.0
TAIL_WAIT_S = 300.0
TAIL_EVENTS_MAX = 100_000
TAIL_BYTES_MAX = 256 << 20

SourceName = tuple[str, str]


@dataclass
class TableAtInstant:
    """One table at the instant.

    Args:
        contract: the table's contract, from the source's catalog now.
        oid: the table's id in the source; a table that was dropped and made again has another.
        silver: the pinned Delta table; None if silver has none yet.
        version: the pinned Delta version.
        rows_about: how many rows silver has.
        prediction: the rows that silver must hold; None if the table is refused, or has been
            stopped for so long that too many events are not merged.
        expect: applies the contract file's masks and empty texts to a row of the source (canonical
            texts); None if it declares none.
        masked: the masked columns.
        explanations: reads which differences quarantine explains.
        generation: the id of the rebuild that made silver's rows; "" if there was none.
    """

    contract: Contract
    oid: int
    silver: DeltaTable | None
    version: int | None
    rows_about: int
    prediction: Prediction | None
    expect: Callable[[Sequence[str | None]], tuple[str | None, ...]] | None = None
    masked: frozenset[str] = frozenset()
    explanations: Callable[[], Explanations] = lambda: NO_EXPLANATIONS
    generation: str = ""

    @property
    def table_id(self) -> str:
        """Return the identity of the Delta table; a rebuilt table has a new one."""
        return "" if self.silver is None else f"{self.silver.metadata().id}{self.generation}"


class Instant:
    """One instant of several tables, open as long as the context of `open_instant`."""

    def __init__(
        self,
        settings: Settings,
        lake: Lakehouse,
        names: Mapping[str, SourceName],
        consumer: Any,
        snapshot: SourceSnapshot,
    ) -> None:
        self.snapshot = snapshot
        self.lsn = snapshot.snapshot_lsn
        self._settings = settings
        self._choice = Choice.of(settings.profile)
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
        """Return the connection with the snapshot's transaction."""
        return self.snapshot.connection

    @property
    def age_s(self) -> float:
        """Return how long the snapshot has kept the source from vacuuming newer row versions."""
        return time.monotonic() - self._opened

    def offsets_behind(self, table: str) -> int:
        """Return how many Kafka offsets silver had not merged at the instant."""
        start = self._start(table)
        return sum(max(0, to - start.get(p, 0)) for p, to in self.ends[table].items())

    def events_behind(self, table: str) -> int:
        """Return how many offsets silver still has to merge; 0 for a table that it has stopped."""
        behind = self.offsets_behind(table)
        if behind > TAIL_EVENTS_MAX:
            entry = self.pinned.get(table)
            if entry is not None and entry.state in (STOPPED, FAILING):
                return 0
            contract = read_contract(self.connection, *self._names[table], choice=self._choice)
            if contract is None or contract.refusal:
                return 0
        return behind

    def table(self, name: str) -> TableAtInstant:
        """Read one table's state and predict its rows.

        Raises: HeadwaterError if the table was dropped, or Kafka does not deliver its events.
        """
        schema, table = self._names[name]
        contract = read_contract(self.connection, schema, table, choice=self._choice)
        if contract is None:
            raise HeadwaterError(f"table {name} was dropped while it was verified")
        oid = _oid(self.connection, contract)
        if contract.refusal or self.offsets_behind(name) > TAIL_EVENTS_MAX:
            return TableAtInstant(contract, oid, None, None, 0, None)
        pinned = self.pinned.get(name)
        delta = self._lake.pinned(pinned) if pinned else None
        version = int(delta.version()) if delta is not None else None
        contract = contract.with_texts(_text_columns(delta, self._files.texts_of(schema, table)))
        silver = SilverRows(delta, contract)
        high_water = pinned.high_water if pinned else HighWater()
        rules, secret = self._rules(contract), self._files.mask_secret

        def treatment(changes: Changes) -> Changes:
            return treat(changes, rules, secret)[1]

        prediction = Prediction(contract, silver, self._events(name), high_water, treatment)
        expect = None
        if rules.treats_values:
            expect = expected_in_silver(contract, rules.empty_to_null, rules.masks, secret)
        masked = frozenset(rules.masks)

        def explanations() -> Explanations:
            entries = self._lake.quarantined(name)
            return read_explanations(contract, entries, treatment, expect or tuple)

        return TableAtInstant(
            contract,
            oid,
            delta,
            version,
            silver.rows,
            prediction,
            expect,
            masked,
            explanations,
            pinned.generation if pinned else "",
        )

    def _rules(self, contract: Contract) -> TableRules:
        try:
            return self._files.rules_of(contract)
        except ContractFileError as error:
            raise HeadwaterError(
                f"the contract file of {contract.schema}.{contract.table} is wrong",
                detail=str(error),
                hint="without it silver's expected rows are not known; see `./headwater contract check`",
            ) from error

    def _start(self, table: str) -> dict[int, int]:
        pinned = self.pinned.get(table)
        return pinned.offsets.get(self.topic(table), {}) if pinned else {}

    def topic(self, table: str) -> str:
        """Return the Kafka topic of a table."""
        return topic_of(self._settings.topic_prefix, *self._names[table])

    def _events(self, table: str) -> list[RawEvent]:
        """Read the events after the pinned offsets that the snapshot sees."""
        events, size = [], 0
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
            events.append(event)
            size += len(event.value or b"")
            if size > TAIL_BYTES_MAX:
                raise HeadwaterError(
                    f"silver is too far behind to verify {table}",
                    detail=f"more than {TAIL_BYTES_MAX >> 20} MiB of events are not merged yet",
                    hint="run it again when the lag in `./headwater sql 'SELECT * FROM ops.freshness'` is low",
                )
        return events


@contextmanager
def open_instant(
    settings: Settings,
    lake: Lakehouse,
    names: Mapping[str, SourceName],
    tables: list[str],
    waits: Waits,
) -> Iterator[Instant]:
    """Open an instant for comparing `tables` (silver's names, all of them in `names`).

    Raises: HeadwaterError if the source, Kafka or the lake does not answer, or silver does not
        catch up.
    """
    patience = Patience(waits)
    consumer = tail.open_consumer(settings.kafka)
    try:
        while True:
            with _marked(settings, lake, names, tables, consumer, waits) as instant:
                late = {t: n for t in tables if (n := instant.events_behind(t)) > TAIL_EVENTS_MAX}
                if not late:
                    yield instant
                    return
            patience.wait(sum(late.values()), behind_text(late))
    finally:
        consumer.close()


@contextmanager
def _marked(
    settings: Settings,
    lake: Lakehouse,
    names: Mapping[str, SourceName],
    tables: list[str],
    consumer: Any,
    waits: Waits,
) -> Iterator[Instant]:
    of = f"the {len(tables)} tables" if len(tables) > 1 else tables[0]
    waits.show(f"verify {of}: reading how far silver is")
    pinned = lake.ledger()
    heartbeat = topic_of(
        settings.topic_prefix, "headwater", settings.profile.own_table("heartbeat")
    )
    arrivals = tail.Arrivals(consumer, settings.topic_prefix, patience_s=MARKER_WAIT_S)
    if not tail.partitions(consumer, heartbeat):
        waits.note("verify waits for the end of the first snapshot")
        waits.show("verify waits for the end of the first snapshot")
    places = tail.await_partitions(consumer, heartbeat, arrivals)
    consumer.assign(places)
    consumer.seek_to_end(*places)
    for place in places:
        consumer.position(place)
    with open_snapshot(settings.capture_dsn) as snapshot:
        marker = write_marker(settings.capture_dsn, settings.profile.own_table("heartbeat"))
        waits.show(f"verify {of}: waiting until Kafka has all that the source has committed")
        tail.await_transaction(consumer, heartbeat, marker, arrivals)
        with closing(
            WrittenEnds(settings.kafka, TableShare().topic_pattern(settings.topic_prefix))
        ) as ends:
            written = ends() or {}
        waits.show(f"verify {of}: waiting until Kafka shows all that it has")
        topics = [topic_of(settings.topic_prefix, *names[table]) for table in tables]
        tail.await_visible(consumer, topics, written)
        instant = Instant(settings, lake, names, consumer, snapshot)
        instant.pinned = pinned
        instant.ends = {t: tail.end_offsets(consumer, instant.topic(t)) for t in tables}
        yield instant


def await_complete(
    settings: Settings,
    lake: Lakehouse,
    lsn: Lsn,
    waits: Waits,
    *,
    what: str = "",
    patience_s: float | None = None,
) -> None:
    """Wait until silver is complete to `lsn`, so that Trino answers with the compared rows.

    Silver knows that it is complete to a position only after one more batch, so this function
    commits heartbeats meanwhile. `what` names the tables in messages.
    Raises: HeadwaterError if silver makes no progress.
    """
    patience = Patience(waits, patience_s)
    while (complete := lake.complete_lsn()) < lsn:
        write_marker(settings.capture_dsn, settings.profile.own_table("heartbeat"))
        place = f"what was committed until {lsn_text(lsn)} (it is at {lsn_text(complete)})"
        patience.wait(lsn - complete, f"{what}, {place}" if what else place)


def _text_columns(delta: DeltaTable | None, chosen: frozenset[str]) -> frozenset[str]:
    """Return the chosen columns that silver already has as text; it follows a contract file later."""
    if delta is None:
        return chosen
    fields = pa.schema(delta.schema().to_arrow())
    return frozenset(field.name for field in fields if str(field.type).endswith("string"))


def _oid(connection: psycopg.Connection[tuple[object, ...]], contract: Contract) -> int:
    row = connection.execute(
        "SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        [contract.schema, contract.table],
    ).fetchone()
    return int(str(row[0])) if row is not None else 0
