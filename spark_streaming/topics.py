"""The captured topics: which table each carries, under which contract, merged how far."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from spark_streaming.catalog_watch import CatalogWatch
from spark_streaming.contract import Contract
from spark_streaming.contract_store import CatalogUnreachableError, ContractStore
from spark_streaming.definitions import Pending
from spark_streaming.earlier import EarlierTables
from spark_streaming.events import RawEvent, source_of
from spark_streaming.evolution import NEW_VERSION
from spark_streaming.evolver import Evolver
from spark_streaming.held import Holds
from spark_streaming.lake import Lake
from spark_streaming.naming import silver_table
from spark_streaming.offsets import BatchSpan
from spark_streaming.position import HighWater
from spark_streaming.stopped import TableStoppedError
from spark_streaming.streams.table import is_stream_table
from spark_streaming.table import SilverTable, TableEvolutionError, TableOptions, generation_name

log = logging.getLogger(__name__)
# Heartbeat and signal tables of the capture itself: they move completeness on, nothing else.
INTERNAL_SCHEMA = "headwater"
# A refused table's catalog entry is looked at again at most this often.
REFUSAL_CHECK_S = 15.0
# Events from before an ALTER TABLE stay unlike the catalog: the same difference is not asked
# about with every batch.
DIFFERENCE_CHECK_S = 30.0


@dataclass
class Topic:
    """One table's topic. `silver` is None where the table is internal or refused.

    Args:
        stamp: of the source's catalog, as it was looked at last; None: not yet.
        unchanged_at: a log position at which the contract still held.
        pendings: the next contracts, where the source's table changed, the oldest first.
        gone: the source dropped the table, before `gone_lsn`.
        settle_at: not to be tried before; by the monotonic clock.
    """

    name: str
    schema: str
    table: str
    contract: Contract | None = None
    silver: SilverTable | None = None
    refusal: str | None = None
    checked_at: float = 0.0
    differences: frozenset[str] = frozenset()
    high_water: HighWater = field(default_factory=HighWater)
    holds: Holds | None = None  # None: not read yet
    stamp: str | None = None
    unchanged_at: int = 0
    pendings: list[Pending] = field(default_factory=list)
    gone: bool = False
    gone_lsn: int = 0
    settle_at: float = 0.0

    @property
    def pending(self) -> Pending | None:
        """The change of the source's table that comes next in the stream."""
        return self.pendings[0] if self.pendings else None

    @property
    def reading(self) -> Contract | None:
        """The contract with those that come after it: events may be named by them already."""
        later = tuple(pending.contract for pending in self.pendings)
        return replace(self.contract, later=later) if self.contract and later else self.contract

    @property
    def source(self) -> tuple[str, str]:
        """The table in the source, (schema, name); a topic's name may have characters replaced."""
        if self.contract is None:
            return self.schema, self.table
        return self.contract.schema, self.contract.table

    @property
    def internal(self) -> bool:
        return self.schema == INTERNAL_SCHEMA

    @property
    def silver_name(self) -> str:
        return silver_table(self.schema, self.table)


class Topics:
    """All topics seen by this process; makes a table's silver side at its first event."""

    def __init__(
        self,
        lake: Lake,
        contracts: ContractStore,
        prefix: str,
        options: TableOptions,
        merged: HighWater,
        evolver: Evolver | None = None,
    ) -> None:
        self.evolver = evolver or Evolver(contracts, CatalogWatch(contracts.dsn))
        self._lake = lake
        self._contracts = contracts
        self._prefix = prefix
        self._options = options
        self._topics: dict[str, Topic] = {}
        self._owners: dict[str, str] = {}
        self._lock = threading.Lock()
        self._merged = merged
        self._earlier = EarlierTables(contracts, prefix)

    def greatest_commit_lsn(self) -> int | None:
        """The greatest commit position that any merged event stands behind, over all topics."""
        with self._lock:
            known = self._merged
            for topic in self._topics.values():
                known = known.merge(topic.high_water)
        greatest = max((p.last_commit_lsn for p in known.positions.values()), default=0)
        return greatest or None

    def tables(self) -> list[SilverTable]:
        """The silver tables that this process has written or is about to."""
        with self._lock:
            return [t.silver for t in self._topics.values() if t.silver is not None]

    def open_silver(self, schema: str, table: str) -> DeltaTable | None:
        """The silver table of a source table at its newest version; None where there is none."""
        name = silver_table(schema, table)
        with self._lock:
            known = [t.silver for t in self._topics.values() if t.silver_name == name and t.silver]
        try:
            return known[0].handle() if known else self._lake.table(self._lake.silver_path(name))
        except TableNotFoundError:
            return None

    def look(
        self,
        span: BatchSpan,
        complete_lsn: int | None,
        is_stopped: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """See whether the tables of a batch, and now and then all, changed in the source.

        A table that has nothing left to merge of before its change follows at once, where its
        policy lets it. A source that is away changes nothing: events tell of new columns, too.

        Args:
            span: of the batch; its events were read before this.
            complete_lsn: what silver is complete to.
        """
        everything = self.evolver.quiet_look_is_due()
        if everything:
            self._meet_earlier(span)
        with self._lock:
            known = [t for t in self._topics.values() if not t.internal]
        wanted = {name for name, size in span.sizes().items() if size}
        try:
            self.evolver.look([t for t in known if everything or t.name in wanted])
            if everything:
                self.evolver.left_out.look()
        except CatalogUnreachableError as error:
            log.debug("%s", error)
        for topic in known:
            while (
                topic.pending is not None
                and topic.contract is not None
                and (complete_lsn or 0) >= topic.pending.contract.valid_from_lsn
                and not is_stopped(topic.name)
                and time.monotonic() >= topic.settle_at
            ):
                try:
                    if self.settle(topic):
                        break
                except Exception as error:  # noqa: BLE001 - its next event tells, and stops it
                    log.warning("table %s: %s", topic.silver_name, error)
                    topic.settle_at = time.monotonic() + DIFFERENCE_CHECK_S
                    break

    def _meet_earlier(self, span: BatchSpan) -> None:
        """Take up tables that earlier processes merged, and that have had no event since."""
        try:
            for name, source in self._earlier.some(span.end):
                with self._lock:
                    is_known = name in self._topics
                if not is_known:
                    self._meet(name, source, [])
        except Exception as error:  # noqa: BLE001 - its next event tells, and stops it
            log.warning("a table that was kept could not be looked at: %s", error)

    def dropped(
        self, complete_lsn: int | None, is_stopped: Callable[[str], bool]
    ) -> list[tuple[Topic, Exception]]:
        """The tables that stop because their source dropped them, each with the reason.

        Their events from before are merged: silver is complete to where they were gone.
        """
        with self._lock:
            known = [t for t in self._topics.values() if t.gone and not is_stopped(t.name)]
        found: list[tuple[Topic, Exception]] = []
        for topic in known:
            try:
                if (complete_lsn or 0) >= topic.gone_lsn:
                    self.evolver.refuse_dropped(topic)
            except TableStoppedError as error:
                found.append((topic, error))
        return found

    def refuse_dropped(self, name: str) -> None:
        """Keep a table stopped that the source dropped. Raises: TableStoppedError."""
        topic = self.named(name, [])
        if topic.contract is None and self._contracts.latest(*topic.source) is not None:
            topic = self.resolve(name, [])  # a new process has not met it yet
        self.evolver.refuse_dropped(topic)

    def settle(self, topic: Topic) -> str:
        """Take up what is pending, where the policy lets it. Returns: why it waits, else empty."""
        if self.evolver.how(topic) is None:
            return self.evolver.waits(topic)
        self.take_up(topic)
        return ""

    def settle_all(self, topic: Topic) -> str:
        """`settle` whatever is pending."""
        while topic.pending is not None:
            if waits := self.settle(topic):
                return waits
        return ""

    def take_up(self, topic: Topic) -> None:
        """Let silver follow what is pending; all events from before it are merged."""
        pending, policy = topic.pending, self.evolver.how(topic)
        if pending is None or policy is None:
            return
        kinds = {change.kind for change in pending.changes}
        if policy == NEW_VERSION and topic.silver is not None and topic.contract is not None:
            name = generation_name(topic.silver_name, topic.contract.version)
            with self._lock:
                taken = any(t.silver_name == name for t in self._topics.values())
            if taken:
                raise TableEvolutionError(f"`{name}` is another table's: nothing can be kept there")
            with topic.silver.lock:
                topic.silver.archive(topic.contract.version)
        self._adopt(
            topic,
            pending.contract,
            clear="table_recreated" in kinds,
            lenient=policy == NEW_VERSION,
            recorded=lambda: self.evolver.taken_up(topic, pending),
        )
        topic.pendings.pop(0)

    def resolve(self, name: str, events: list[RawEvent]) -> Topic:
        """The topic with its contract and table, made where this is the table's first event.

        Raises: CatalogUnreachableError where the contract is neither kept nor readable.
        """
        with self._lock:
            topic = self._topics.get(name)
        if topic is None:
            topic = self._meet(name, source_of(name, self._prefix, events), events)
        elif topic.refusal and time.monotonic() - topic.checked_at > REFUSAL_CHECK_S:
            self.refresh(topic)
        return topic

    def named(self, name: str, events: list[RawEvent]) -> Topic:
        """The topic as far as it is known, also where `resolve` fails; not kept if it is new."""
        with self._lock:
            topic = self._topics.get(name)
        if topic is None:
            schema, table = source_of(name, self._prefix, events)
            topic = Topic(name, schema, table, high_water=self._merged.of_topic(name))
        return topic

    def contract_of(self, name: str, *, refresh: bool = False) -> str:
        """What changes with a topic's contract or the one pending; empty where it has none yet.

        refresh: look at the source's catalog before; what fails there changes nothing.
        """
        with self._lock:
            topic = self._topics.get(name)
        if topic is None:
            return ""
        if refresh:
            try:
                self.refresh(topic)
            except Exception as error:  # noqa: BLE001 - the next try of the table tells
                log.debug("contract of %s: %s", name, error)
        known = [topic.contract, topic.pending.contract if topic.pending else None]
        return " ".join(contract.fingerprint() for contract in known if contract)

    def follow(self, topic: Topic, unknown: set[str], stale: set[str]) -> bool:
        """Look at the catalog where events have other columns than the contract.

        Returns: it is known to have changed: part the events anew and decode again.
        Raises: CatalogUnreachableError where events carry a column that nobody can name; what
            is only missing or of another type can be judged by the contract that is kept.
        """
        found = frozenset(unknown | stale)
        known = found <= topic.differences
        if not found or (known and time.monotonic() - topic.checked_at < DIFFERENCE_CHECK_S):
            return False
        try:
            changed = self.refresh(topic)
        except CatalogUnreachableError as error:
            if unknown:
                raise
            log.warning("%s", error)
            return False
        topic.differences = frozenset() if changed else topic.differences | found
        return changed

    def refresh(self, topic: Topic, events: list[RawEvent] | None = None) -> bool:
        """Look at the source's catalog again. Returns: it is known now that something changed.

        events: the first of a table that was never seen.
        """
        topic.checked_at = time.monotonic()
        if topic.contract is not None and not topic.refusal:
            before = len(topic.pendings)
            self.evolver.look([topic])
            return len(topic.pendings) != before
        if topic.contract is None and not topic.internal:
            self.evolver.before_first(topic)
        found = self._contracts.refreshed(topic.schema, topic.table, topic.contract)
        if found is None:
            topic.refusal = (
                f"table {topic.schema}.{topic.table} is not in the source's catalog any more, and "
                "no contract of it was kept"
            )
            return False
        if found == topic.contract and topic.refusal == found.refusal:
            return False
        if topic.contract is None and not topic.internal and not found.refusal:
            topic.refusal = None
            if not self.evolver.first(topic, found):
                return True
            found = self.evolver.beginning(topic, found, events or [])
        self._adopt(topic, found)
        return True

    def _meet(self, name: str, source: tuple[str, str], events: list[RawEvent]) -> Topic:
        schema, table = source
        topic = Topic(name, schema, table, high_water=self._merged.of_topic(name))
        kept = None if topic.internal else self._contracts.latest(schema, table)
        if kept is None or kept.refusal:
            self.refresh(topic, events)
        else:
            self._adopt(topic, kept, known=True)
            topic.unchanged_at = 0
            with contextlib.suppress(CatalogUnreachableError):
                self.evolver.look([topic])
        with self._lock:
            self._topics[name] = topic
        return topic

    def _adopt(
        self,
        topic: Topic,
        contract: Contract,
        *,
        known: bool = False,
        clear: bool = False,
        lenient: bool = False,
        recorded: Callable[[], None] = lambda: None,
    ) -> None:
        topic.refusal = contract.refusal or self._collision(topic)
        topic.holds = None  # keyed by the contract's key: read again
        if topic.internal or topic.refusal:
            topic.contract = contract
            if topic.refusal:
                log.warning("not merged: %s", topic.refusal)
            return
        if topic.silver is None:
            topic.silver = SilverTable(self._lake, topic.silver_name, contract, self._options)
        silver = topic.silver
        with silver.lock:
            if not silver.ensure():
                added = silver.adopt(contract, clear=clear, lenient=lenient)
                if added:
                    log.info("table %s: added column(s) %s", silver.name, ", ".join(added))
        recorded()
        if not known:
            self._contracts.keep(contract)
        topic.contract = contract

    def _collision(self, topic: Topic) -> str | None:
        with self._lock:
            owner = self._owners.setdefault(topic.silver_name, topic.name)
        if topic.internal:
            return None
        if topic.silver is None and is_stream_table(self._lake, topic.silver_name):
            return (
                f"table {topic.schema}.{topic.table} would share the silver table "
                f"`{topic.silver_name}` with a stream\n  hint: rename the stream's file"
            )
        if owner == topic.name:
            return None
        return (
            f"table {topic.schema}.{topic.table} would share the silver table "
            f"`{topic.silver_name}` with topic {owner}\n  hint: rename one of the two"
        )
