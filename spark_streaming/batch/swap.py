"""Swaps a rebuilt table in for silver's, inside the job, which is the only writer of silver.

The table is stopped (see `resumption`), and the swap is the first step of its catching up:
1. Note the step in the ledger: the offsets of silver, those of the rebuild, the commit's name.
2. Replace all rows of silver in that one commit, while the batches of the other tables go on, and
   resolve the table's entries in quarantine.
3. Catch up with the stream from the end of the rebuild, like any stopped table.
4. When the ledger has the swap, remove the rebuild's folder.
A new process repeats the noted step if it has to; the table's log shows whether it was committed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from spark_streaming.batch.rebuild_state import Rebuild, RebuildStore
from spark_streaming.contract.contract_store import CatalogUnreachableError
from spark_streaming.events.position import HighWater
from spark_streaming.ops.stopped import Slice
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.quarantine.rebuilt_entries import resolve_entries
from spark_streaming.schema.topic import Topic
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.silver_table import SilverTable, TableOptions, row_count

log = logging.getLogger(__name__)
# Each check lists a folder of the bucket, and requests are rare.
CHECK_EVERY_S = 5.0


@dataclass(frozen=True)
class Swapped:
    """A table after its swap: the positions that its rows cover, and the commit of the swap."""

    topic: Topic
    high_water: HighWater
    delta_version: int
    rows: int
    id: str


class SwapFailedError(Exception):
    """A rebuild cannot be swapped in; the message says why."""


class Swaps:
    """Carries out the requested swaps, one at a time, in a thread of its own."""

    def __init__(
        self,
        lake: Lake,
        topics: Topics,
        quarantine: Quarantine,
        is_own: Callable[[str], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lake = lake
        self._topics = topics
        self._quarantine = quarantine
        self._is_own = is_own
        self._clock = clock
        self._store = RebuildStore(lake)
        self._checked_at = -CHECK_EVERY_S
        self._running: dict[str, Future[Swapped]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="swap")

    def asked(self) -> list[Rebuild]:
        """The newest requested rebuild of each table; requests are listed every CHECK_EVERY_S.

        Older and incomplete rebuilds are refused.
        """
        now = self._clock()
        if now - self._checked_at < CHECK_EVERY_S:
            return []
        self._checked_at = now
        try:
            requests = [one for one in self._store.asked() if self._is_own(one[1])]
            newest = {table: rebuild_id for rebuild_id, table in requests}
            found = []
            for rebuild_id, table in requests:
                if newest[table] != rebuild_id:
                    self.refuse(rebuild_id, "a newer rebuild of the table was requested")
                    continue
                state = self._store.state(table, rebuild_id)
                if state is None or not state.done:
                    self.refuse(rebuild_id, "its folder is missing, or it is not complete")
                else:
                    found.append(state)
            return found
        except (OSError, ValueError) as error:
            log.warning("cannot read rebuilds, trying again later: %s", error)
            return []

    def refuse(self, rebuild_id: str, reason: str) -> None:
        """Answer a request with the reason for not swapping."""
        log.warning("rebuild %s is refused: %s", rebuild_id, reason)
        with suppress(OSError):
            self._store.refuse(rebuild_id, reason)

    def topic_of(self, state: Rebuild) -> Topic:
        """The table's topic under its newest contract.

        Raises: SwapFailedError if the table cannot take the rebuilt rows.
        """
        topic = self._topics.resolve(state.topic, [state.naming_event()])
        with suppress(CatalogUnreachableError):
            self._topics.refresh(topic)
        if topic.silver is None or topic.refusal or topic.contract is None:
            raise SwapFailedError(topic.refusal or f"{state.table} is not kept in silver")
        side = SilverTable(
            self._lake.below(state.folder), state.table, topic.contract, TableOptions()
        )
        have = {field.name for field in side.handle().schema().fields}
        unknown = have - set(topic.contract.silver_schema().names)
        if unknown:
            raise SwapFailedError(
                f"it has columns that the contract does not have: {', '.join(sorted(unknown))}"
            )
        return topic

    def carried_out(self, table: str, rebuild_id: str, piece: Slice) -> Swapped | None:
        """Start a swap, or return its result. Returns: None while it runs.

        Raises: the error that made it fail; the next call starts it again.
        """
        future = self._running.get(rebuild_id)
        if future is None:
            future = self._pool.submit(self._swap, table, rebuild_id, piece)
            self._running[rebuild_id] = future
        if not future.done():
            return None
        del self._running[rebuild_id]
        return future.result()

    def clean(self, state: Rebuild) -> None:
        """Remove a rebuild's folder in the background, once the ledger has the swap."""
        self._pool.submit(self._removed, state)

    def _removed(self, state: Rebuild) -> None:
        try:
            self._store.remove(state)
        except OSError as error:
            log.warning("cannot remove rebuild %s, trying again later: %s", state.id, error)

    def _swap(self, table: str, rebuild_id: str, piece: Slice) -> Swapped:
        began = time.monotonic()
        state = self._store.state(table, rebuild_id)
        if state is None:
            raise SwapFailedError(f"the folder of rebuild {rebuild_id} is gone")
        topic = self.topic_of(state)
        silver, contract = topic.silver, topic.contract
        assert silver is not None and contract is not None
        side = self._lake.below(state.folder)
        built = SilverTable(side, table, contract, TableOptions())
        with silver.lock:
            silver.forget()
            silver.ensure()
            if not silver.has_commit(piece.commit):
                silver.replace_rows(built.handle().to_pyarrow_dataset(), piece.commit)
            version = silver.version()
        rebuilt = Quarantine(side, state.id, TableOptions().properties())
        settled = resolve_entries(self._quarantine, table, rebuilt, state.offsets)
        rows = row_count(built.handle())
        log.info(
            "table %s is rebuilt: %d rows of %d events in %.1f s; quarantine: %d new, %d resolved",
            table,
            rows,
            state.events,
            time.monotonic() - began,
            len(settled.added) + len(settled.reopened),
            len(settled.superseded) + len(settled.replayed),
        )
        return Swapped(topic, state.high_water, version, rows, state.id)
