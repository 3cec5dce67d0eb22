"""The captured topics: which table each carries, under which contract, merged how far."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass, field

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract import Contract
from spark_streaming.contract_store import CatalogUnreachableError, ContractStore
from spark_streaming.events import RawEvent
from spark_streaming.held import Holds
from spark_streaming.lake import Lake
from spark_streaming.naming import parse_topic, silver_table
from spark_streaming.position import HighWater
from spark_streaming.table import SilverTable, TableOptions

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
    """One table's topic. `silver` is None where the table is internal or refused."""

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
    ) -> None:
        self._lake = lake
        self._contracts = contracts
        self._prefix = prefix
        self._options = options
        self._topics: dict[str, Topic] = {}
        self._owners: dict[str, str] = {}
        self._lock = threading.Lock()
        self._merged = merged

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

    def resolve(self, name: str, events: list[RawEvent]) -> Topic:
        """The topic with its contract and table, made where this is the table's first event.

        Raises: CatalogUnreachableError where the contract is neither kept nor readable.
        """
        with self._lock:
            topic = self._topics.get(name)
        if topic is None:
            topic = self._first_sight(name, events)
        elif topic.refusal and time.monotonic() - topic.checked_at > REFUSAL_CHECK_S:
            self.refresh(topic)
        return topic

    def named(self, name: str, events: list[RawEvent]) -> Topic:
        """The topic as far as it is known, also where `resolve` fails; not kept if it is new."""
        with self._lock:
            topic = self._topics.get(name)
        if topic is None:
            schema, table = _source_of(name, self._prefix, events)
            topic = Topic(name, schema, table, high_water=self._merged.of_topic(name))
        return topic

    def contract_of(self, name: str, *, refresh: bool = False) -> str:
        """The fingerprint of a topic's contract, empty where it has none yet.

        refresh: look at the source's catalog before; what fails there changes nothing.
        """
        with self._lock:
            topic = self._topics.get(name)
        if topic is None or topic.contract is None:
            return ""
        if refresh:
            try:
                self.refresh(topic)
            except Exception as error:  # noqa: BLE001 - the next try of the table tells
                log.debug("contract of %s: %s", name, error)
        return topic.contract.fingerprint()

    def follow(self, topic: Topic, unknown: set[str], stale: set[str]) -> bool:
        """Look at the catalog where events have other columns than the contract.

        Returns: the contract changed, decode again.
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

    def refresh(self, topic: Topic) -> bool:
        """Look at the source's catalog again and let silver follow. Returns: it changed."""
        found = self._contracts.refreshed(topic.schema, topic.table, topic.contract)
        topic.checked_at = time.monotonic()
        if found is None:
            topic.refusal = (
                f"table {topic.schema}.{topic.table} is not in the source's catalog any more, and "
                "no contract of it was kept"
            )
            return False
        if found == topic.contract and topic.refusal == found.refusal:
            return False
        self._adopt(topic, found)
        return True

    def _first_sight(self, name: str, events: list[RawEvent]) -> Topic:
        schema, table = _source_of(name, self._prefix, events)
        topic = Topic(name, schema, table, high_water=self._merged.of_topic(name))
        kept = None if topic.internal else self._contracts.latest(schema, table)
        if kept is None or kept.refusal:
            self.refresh(topic)
        else:
            self._adopt(topic, kept, known=True)
        with self._lock:
            self._topics[name] = topic
        return topic

    def _adopt(self, topic: Topic, contract: Contract, *, known: bool = False) -> None:
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
                added = silver.adopt(contract)
                if added:
                    log.info("table %s: added column(s) %s", silver.name, ", ".join(added))
        if not known:
            self._contracts.keep(contract)
        topic.contract = contract

    def _collision(self, topic: Topic) -> str | None:
        with self._lock:
            owner = self._owners.setdefault(topic.silver_name, topic.name)
        if topic.internal or owner == topic.name:
            return None
        return (
            f"table {topic.schema}.{topic.table} would share the silver table "
            f"`{topic.silver_name}` with topic {owner}\n  hint: rename one of the two"
        )


def _source_of(name: str, prefix: str, events: list[RawEvent]) -> tuple[str, str]:
    """The table as the source names it: the topic's name has characters replaced."""
    for event in events:
        try:
            source = json.loads(event.value)["source"] if event.value else None
            if source:
                return str(source["schema"]), str(source["table"])
        except (ValueError, TypeError, KeyError):
            continue
    parsed = parse_topic(name, prefix)
    if parsed is None:
        raise ValueError(f"topic {name} is no table's")
    return parsed
