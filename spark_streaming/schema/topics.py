"""The captured topics: the table that each carries, its contract, and how far it is merged."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import CatalogUnreachableError, ContractStore
from spark_streaming.contract.evolution import NEW_VERSION
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.names import topic_of
from spark_streaming.events.event import RawEvent, source_of
from spark_streaming.events.position import HighWater
from spark_streaming.ops.stopped import TableStoppedError
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.schema.catalog_watch import CatalogWatch
from spark_streaming.schema.evolver import Evolver
from spark_streaming.schema.previous_tables import PreviousTables
from spark_streaming.schema.topic import Topic
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.ownership import Claim, Owners
from spark_streaming.tables.silver_names import SilverNames
from spark_streaming.tables.silver_table import (
    SilverTable,
    TableEvolutionError,
    TableOptions,
    generation_name,
)

log = logging.getLogger(__name__)
# How often, at most, a refused table's catalog entry is checked again.
REFUSAL_CHECK_S = 15.0
# Events from before an ALTER TABLE keep differing from the catalog, so the same difference is not
# checked with every batch.
DIFFERENCE_CHECK_S = 30.0


@dataclass
class _Checks:
    """When a topic's table was checked in the catalog, and when to try again (monotonic clock).

    `differences`: columns of events that the contract did not have at the last check.
    """

    at: float = 0.0
    differences: frozenset[str] = frozenset()
    retry_at: float = 0.0


class Topics:
    """All topics seen by this process; makes a table in silver at its first event."""

    def __init__(
        self,
        lake: Lake,
        contracts: ContractStore,
        prefix: str,
        options: TableOptions,
        merged: HighWater,
        evolver: Evolver | None = None,
        names: SilverNames | None = None,
    ) -> None:
        self.evolver = evolver or Evolver(contracts, CatalogWatch(contracts.dsn))
        self._lake = lake
        self._contracts = contracts
        self._prefix = prefix
        self._options = options
        self._topics: dict[str, Topic] = {}
        self._checks: defaultdict[str, _Checks] = defaultdict(_Checks)
        self._names = names or SilverNames(lake)
        self._owners = Owners(lake, contracts, self._names.of)
        self._lock = threading.Lock()
        self._merged = merged
        self._earlier = PreviousTables(contracts, prefix)

    def greatest_commit_lsn(self) -> Lsn | None:
        """The greatest commit LSN of a merged event, over all topics."""
        with self._lock:
            known = self._merged
            for topic in self._topics.values():
                known = known.merge(topic.high_water)
        return known.greatest_commit_lsn or None

    def tables(self) -> list[SilverTable]:
        """The silver tables that this process has written or is about to."""
        with self._lock:
            return [t.silver for t in self._topics.values() if t.silver is not None]

    def open_silver(self, schema: str, table: str) -> DeltaTable | None:
        """The silver table of a source table at its newest version; None if there is none."""
        name = self._names.of(schema, table)
        with self._lock:
            known = [t.silver for t in self._topics.values() if t.silver_name == name and t.silver]
        try:
            return known[0].handle() if known else self._lake.table(self._lake.silver_path(name))
        except TableNotFoundError:
            return None

    def check(
        self,
        span: BatchSpan,
        complete_lsn: Lsn | None,
        is_stopped: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Check whether the tables of a batch, and from time to time all, changed in the source.

        Silver follows a change at once if all events from before it are merged and the policy
        admits it. If the source does not answer, nothing changes: events show new columns, too.

        Args:
            span: the batch's; its events were read before this call.
            complete_lsn: the LSN to which silver is complete.
        """
        everything = self.evolver.full_check_is_due()
        if everything:
            self._add_previous_tables(span)
        with self._lock:
            known = [t for t in self._topics.values() if not t.internal]
        wanted = {name for name, size in span.sizes().items() if size}
        try:
            self.evolver.check([t for t in known if everything or t.name in wanted])
            if everything:
                self.evolver.left_out.check()
        except CatalogUnreachableError as error:
            log.debug("%s", error)
        for topic in known:
            while (
                topic.pending is not None
                and topic.contract is not None
                and (complete_lsn or 0) >= topic.pending.contract.valid_from_lsn
                and not is_stopped(topic.name)
                and time.monotonic() >= self._checks[topic.name].retry_at
            ):
                try:
                    if self.apply_if_allowed(topic):
                        break
                except Exception as error:  # noqa: BLE001 - its next event meets the same and stops it
                    log.warning("table %s: %s", topic.silver_name, error)
                    self._checks[topic.name].retry_at = time.monotonic() + DIFFERENCE_CHECK_S
                    break

    def _add_previous_tables(self, span: BatchSpan) -> None:
        """Add tables that previous processes merged and that have had no event since."""
        try:
            for name, source in self._earlier.some(span.end):
                with self._lock:
                    is_known = name in self._topics
                if not is_known:
                    self._add(name, source, [])
        except Exception as error:  # noqa: BLE001 - its next event meets the same and stops it
            log.warning("cannot check a table of a previous process: %s", error)

    def dropped(
        self, complete_lsn: Lsn | None, is_stopped: Callable[[str], bool]
    ) -> list[tuple[Topic, Exception]]:
        """The tables to stop because their source dropped them, each with the reason.

        All their events are merged: silver is complete to the LSN at which the tables were gone.
        """
        with self._lock:
            known = [t for t in self._topics.values() if t.gone and not is_stopped(t.name)]
        found: list[tuple[Topic, Exception]] = []
        for topic in known:
            try:
                if (complete_lsn or 0) >= (topic.catalog.gone_by or 0):
                    self.evolver.refuse_dropped(topic)
            except TableStoppedError as error:
                found.append((topic, error))
        return found

    def refuse_dropped(self, name: str) -> None:
        """Keep a table stopped if the source dropped it. Raises: TableStoppedError."""
        topic = self.named(name, [])
        if topic.contract is None and self._contracts.latest(*topic.source) is not None:
            topic = self.resolve(name, [])  # a new process does not know it yet
        self.evolver.refuse_dropped(topic)

    def apply_if_allowed(self, topic: Topic) -> str:
        """Apply the pending change if its policy admits it. Returns: why it waits, else empty."""
        if self.evolver.how(topic) is None:
            return self.evolver.waits(topic)
        self.apply_pending(topic)
        return ""

    def apply_all_pending(self, topic: Topic) -> str:
        """Apply all pending changes that policies admit. Returns: why one waits, else empty."""
        while topic.pending is not None:
            if waits := self.apply_if_allowed(topic):
                return waits
        return ""

    def apply_pending(self, topic: Topic) -> None:
        """Let silver follow the pending change; all events from before it must be merged."""
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
            recorded=lambda: self.evolver.records.put_applied(topic, pending),
        )
        topic.expect(topic.pendings[1:])

    def resolve(self, name: str, events: list[RawEvent]) -> Topic:
        """The topic with its contract and table; makes both at the table's first event.

        Raises: CatalogUnreachableError if the contract is neither kept nor readable.
        """
        with self._lock:
            topic = self._topics.get(name)
        if topic is None:
            topic = self._add(name, self._source_of(name, events), events)
        elif (
            topic.refusal
            and not topic.collides  # no change of the catalog repairs a collision
            and time.monotonic() - self._checks[name].at > REFUSAL_CHECK_S
        ):
            self.refresh(topic)
        return topic

    def named(self, name: str, events: list[RawEvent]) -> Topic:
        """The topic as far as it is known, even if `resolve` fails; a new one is not stored."""
        with self._lock:
            topic = self._topics.get(name)
        if topic is None:
            source, names = self._source_of(name, events), self._names.of
            topic = Topic(name, *source, high_water=self._merged.of_topic(name), names=names)
        return topic

    def _source_of(self, name: str, events: list[RawEvent]) -> tuple[str, str]:
        return source_of(name, self._prefix, events, self._names.source_of)

    def contract_of(self, name: str, *, refresh: bool = False) -> str:
        """A text that differs when the contract or the pending one does; empty if there is none.

        refresh: whether to check the source's catalog first; a failure of the check is ignored.
        """
        with self._lock:
            topic = self._topics.get(name)
        if topic is None:
            return ""
        if refresh:
            try:
                self.refresh(topic)
            except Exception as error:  # noqa: BLE001 - the table's next try reports it
                log.debug("contract of %s: %s", name, error)
        known = [topic.contract, topic.pending.contract if topic.pending else None]
        return " ".join(contract.fingerprint() for contract in known if contract)

    def follow(self, topic: Topic, unknown: set[str], stale: set[str]) -> bool:
        """Check the catalog because events have other columns than the contract.

        Returns: whether the table changed; its events must then be split and decoded again.
        Raises: CatalogUnreachableError if events carry an unknown column; a column that is only
        missing or of another type can be judged by the known contract.
        """
        found = frozenset(unknown | stale)
        last = self._checks[topic.name]
        known = found <= last.differences
        if not found or (known and time.monotonic() - last.at < DIFFERENCE_CHECK_S):
            return False
        try:
            changed = self.refresh(topic)
        except CatalogUnreachableError as error:
            if unknown:
                raise
            log.warning("%s", error)
            return False
        last.differences = frozenset() if changed else last.differences | found
        return changed

    def refresh(self, topic: Topic, events: list[RawEvent] | None = None) -> bool:
        """Check the source's catalog again. Returns: whether something changed.

        events: the first events of a new table.
        """
        self._checks[topic.name].at = time.monotonic()
        if topic.contract is not None and not topic.refusal:
            before = len(topic.pendings)
            self.evolver.check([topic])
            return len(topic.pendings) != before
        if topic.contract is None and not topic.internal:
            self.evolver.before_first(topic)
        found = self._contracts.refreshed(topic.schema, topic.table, topic.contract)
        if found is None:
            topic.refuse(
                f"table {topic.schema}.{topic.table} is not in the source's catalog any more, and "
                "no contract of it was kept"
            )
            return False
        if found == topic.contract and topic.refusal == found.refusal:
            return False
        topic.named_by(found)
        if topic.contract is None and not topic.internal and not found.refusal:
            self._refuse_collision(topic)
            if topic.refusal:
                log.warning("not merged: %s", topic.refusal)
                return False
            if not self.evolver.first(topic, found):
                return True
            found = self.evolver.beginning(topic, found, events or [])
        self._adopt(topic, found)
        return True

    def add_empty(self, source: tuple[str, str], reached: int) -> Topic | None:
        """Add a captured table that has had no event yet; None if it is known or no longer exists.

        reached: the log position before which it has no event.
        """
        name = topic_of(self._prefix, *source)
        with self._lock:
            known = name in self._topics
        topic = None if known else self._add(name, source, [], reached)
        if topic is None or topic.contract is not None or topic.refusal is None or topic.collides:
            return topic
        with self._lock:
            del self._topics[name]  # it was dropped since; its next event adds it again
        return None

    def _add(
        self,
        name: str,
        source: tuple[str, str],
        events: list[RawEvent],
        reached: int | None = None,
    ) -> Topic:
        high_water = self._merged.of_topic(name)
        names = self._names.of
        topic = Topic(name, *source, high_water=high_water, reached=reached, names=names)
        kept = None if topic.internal else self._contracts.latest(*source)
        if kept is not None:  # the schema's end may be ambiguous in the name of a topic or folder
            topic.named_by(kept)
        if kept is None or kept.refusal:
            self.refresh(topic, events)
        else:
            self._adopt(topic, kept, known=True)
            with contextlib.suppress(CatalogUnreachableError):
                self.evolver.check([topic])
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
        if contract.refusal:
            topic.refuse(contract.refusal)
        opened = None if contract.refusal else self._refuse_collision(topic)
        if topic.internal or topic.refusal:
            topic.adopt(contract)
            if topic.refusal:
                log.warning("not merged: %s", topic.refusal)
            return
        silver = topic.silver or SilverTable(
            self._lake, topic.silver_name, contract, self._options, opened
        )
        with silver.lock:
            if not silver.ensure():
                if topic.contract is None and not known:
                    silver.reset_columns()
                added = silver.adopt(contract, clear=clear, lenient=lenient)
                if added:
                    log.info("table %s: added column(s) %s", silver.name, ", ".join(added))
        recorded()
        if not known:
            self._contracts.keep(contract)
        topic.adopt(contract, silver)

    def _refuse_collision(self, topic: Topic) -> DeltaTable | None:
        """Refuse a topic if another table owns its silver name. Returns: the silver table if this opened it."""
        claim = Claim(None) if topic.internal else self._owners.claim(topic.schema, topic.table)
        topic.refuse(claim.refusal, collides=claim.refusal is not None)
        return claim.opened
