"""Builds a silver table again from bronze, beside the old one; the job swaps it in (see `swap`).

A rebuild is a small lake of its own, in a folder of the real one, and uses the same steps as the
batches: decode, fold, rules, quarantine, merge. For each slice of events, in order:
1. Store the offsets of the slice (`Rebuild.planned`).
2. Merge it; by the commit's name, the table's log shows whether it has the slice.
An interrupted builder repeats exactly the planned slice. A builder writes nothing outside its
folder, so any machine that reaches the object store may run it beside the job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from deltalake import DeltaTable

from spark_streaming.batch.gate import Gate
from spark_streaming.batch.rebuild_state import Rebuild, RebuildStore
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.batch.upkeep.table_need import Steps
from spark_streaming.batch.upkeep.table_upkeep import finish, maintain_table
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.events.contract_versions import key_changed
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.ops.stopped import Slice
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.reading.events_by_time import EventsByTime
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.catalog_watch import CatalogWatch
from spark_streaming.schema.evolver import Evolver
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engine_protocol import Commit
from spark_streaming.tables.engines.choice import without_spark
from spark_streaming.tables.silver_names import SilverNames
from spark_streaming.tables.silver_table import SilverTable, TableOptions

log = logging.getLogger(__name__)
SLICE_EVENTS_MAX = 50_000
SLICE_BYTES_MAX = 64 << 20
# Each merge rewrites files, and nobody reads old versions of a table that is being built.
TIDY_COMMITS = 10


class RebuildRefusedError(Exception):
    """A table cannot be rebuilt; the message says why."""


class RulesChangedError(Exception):
    """The contract or its rules changed since the rebuild began: it has to start over."""


class Builder:
    """Builds one table beside silver, slice by slice.

    Args:
        lake: the real lake, for contracts and for other tables that rules refer to.
        dsn: of the source, whose catalog is read if events carry unknown columns.
        slice_events_max, slice_bytes_max: the most events and bytes in memory at once.
    """

    def __init__(
        self,
        lake: Lake,
        state: Rebuild,
        files: ContractFolder,
        dsn: str,
        *,
        prefix: str,
        slice_events_max: int = SLICE_EVENTS_MAX,
        slice_bytes_max: int = SLICE_BYTES_MAX,
    ) -> None:
        self._store = RebuildStore(lake)
        self._limits = (slice_events_max, slice_bytes_max)
        side, options = lake.below(state.folder), TableOptions()
        properties = options.properties()
        quarantine = Quarantine(side, state.id, properties, files.hiding_of)
        contracts = _KeptContracts(lake, dsn, files.texts_of)
        evolver = Evolver(contracts, CatalogWatch(dsn), files.evolution_of)
        self._topics = _SideTopics(side, lake, contracts, prefix, options, evolver)
        gate = Gate(files, quarantine, None, self._topics)
        self._steps = TableSteps(state.id, self._topics, gate, without_spark())
        quarantine.ensure()
        self.topic = self._topics.resolve(state.topic, [state.naming_event()])
        if self.topic.refusal or self.topic.contract is None or self.topic.silver is None:
            raise RebuildRefusedError(self.topic.refusal or f"{state.table} is not kept in silver")
        if key_changed(self.topic.contract):
            raise RebuildRefusedError(
                f"the key of {state.table} changed, so older deletes name rows by another key; "
                f"`headwater resync {state.table}` reads its rows from the source"
            )
        self._commits = 0
        self.state = state

    @property
    def contract(self) -> Contract:
        """The contract by which events are decoded."""
        assert self.topic.contract is not None
        return self.topic.contract

    def begin(self) -> Rebuild:
        """Write the state of a new rebuild, or check the state of an interrupted one.

        Raises: RulesChangedError if the contract or its rules changed since the rebuild began.
        """
        made_for = self._steps.contract_of(self.state.topic)
        if not self.state.made_for:
            self._keep(replace(self.state, made_for=made_for))
        elif self.state.made_for != made_for:
            raise RulesChangedError("the contract or its rules changed since the rebuild began")
        return self.state

    def run(
        self, feed: EventsByTime, tick: Callable[[Rebuild], None] = lambda state: None
    ) -> Rebuild:
        """Merge all events of a feed that begins at the state's offsets.

        Args:
            tick: called after each slice.
        Raises: TableStoppedError if a rule stops the table, and any error of reading. The slices
            merged before stay, and another builder continues after them.
        """
        planned = self.state.planned
        if planned is not None:
            self._merge(feed.take_until(planned.end), planned)
            tick(self.state)
        while events := feed.take(*self._limits):
            self._merge(events, self._plan(events))
            tick(self.state)
        return self.state

    def finished(self) -> Rebuild:
        """Mark the rebuild as complete. Returns: its final state."""
        self._keep(replace(self.state, done=True))
        return self.state

    def _plan(self, events: list[RawEvent]) -> Slice:
        ends = dict(self.state.offsets)
        for event in events:
            ends[event.partition] = max(ends.get(event.partition, 0), event.offset + 1)
        commit = Commit(f"headwater:rebuild:{self.state.id}", sum(ends.values()))
        piece = Slice(dict(self.state.offsets), ends, commit)
        self._keep(replace(self.state, planned=piece))
        return piece

    def _merge(self, events: list[RawEvent], piece: Slice) -> None:
        topic = self.topic
        done = self._steps.take(topic.name, events, piece.commit, self.state.high_water)
        if topic.refusal:
            raise RebuildRefusedError(topic.refusal)
        topic.merged(done.taken.high_water)
        # Stored with the next plan; until then the commit's name shows that the slice is merged.
        self.state = self.state.taken(piece, len(events), topic.high_water)
        self._commits += 1
        if self._commits % TIDY_COMMITS == 0 and self.topic.silver is not None:
            tidy(self.topic.silver)

    def _keep(self, state: Rebuild) -> None:
        self._store.keep(state)
        self.state = state


def tidy(table: SilverTable) -> None:
    """Join small files, write a checkpoint, and delete the files of old versions at once."""
    finish(maintain_table(table, Steps(join=True, checkpoint=True)))
    with table.lock:
        table.handle().vacuum(
            retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True
        )


class _SideTopics(Topics):
    """Topics whose silver tables are the table being built and, for all others, the real ones."""

    def __init__(
        self,
        side: Lake,
        lake: Lake,
        contracts: ContractStore,
        prefix: str,
        options: TableOptions,
        evolver: Evolver,
    ) -> None:
        names = SilverNames(lake)
        super().__init__(side, contracts, prefix, options, HighWater(), evolver, names)
        self._real = Topics(lake, contracts, prefix, options, HighWater(), evolver, names)

    def open_silver(self, schema: str, table: str) -> DeltaTable | None:
        found = super().open_silver(schema, table)
        return found if found is not None else self._real.open_silver(schema, table)


class _KeptContracts(ContractStore):
    """Reads the contracts that the job stores; uses a newer contract without storing it."""

    def keep(self, contract: Contract) -> None:
        del contract
