"""Rebuilds a silver table from bronze alone: `headwater rebuild TABLE`.

1. Build the table beside silver from the first event in bronze, slice by slice
   (`spark_streaming.batch.silver_rebuild`). An interrupted rebuild continues at the next call.
2. Repeat this for events that arrived meanwhile, until few are left.
3. Ask the streaming job to swap the tables, and wait until the table runs.
"""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from datetime import datetime, timezone
from functools import partial

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse, LedgerEntry
from app.printing import Steps
from app.rebuild.rebuild_gaps import Gaps
from app.rebuild.rebuild_guards import check_room, entry_in, source_table_of, topic_in
from app.verify.verify_bronze import ExplainedGaps
from app.verify.verify_progress import Progress
from app.verify.verify_state import FOLDER as VERIFY_FOLDER
from spark_streaming.batch.rebuild_state import Rebuild, RebuildStore
from spark_streaming.batch.silver_rebuild import Builder, RulesChangedError
from spark_streaming.ops.requests import new_id
from spark_streaming.ops.stopped import STOPPED
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.events_by_time import EventsByTime
from spark_streaming.rules.contract_folder import ContractFolder

ROUNDS_MAX = 5
# The stream can merge this many events quickly, so they need not come from bronze.
LEFT_EVENTS = 5_000
# The partitions of bronze do not end at one instant, so the newest events are left to the stream.
LEFT_MS = 10_000
PATIENCE_S = 120.0
POLL_S = 0.5
ATTEMPTS_MAX = 3


class RebuildCommand:
    """One rebuild, as the command runs it."""

    def __init__(self, settings: Settings, table: str, steps: Steps) -> None:
        self._settings = settings
        self._table = table
        self._steps = steps
        self._lake = Lakehouse(settings)
        self._store = RebuildStore(self._lake.lake.for_writing())
        self._bronze = Bronze(self._lake.bronze_files())
        self._topic = topic_in(self._lake.ledger(), table)

    def run(self) -> Rebuild:
        """Build the table, request the swap, wait for it; return the state of the rebuild."""
        state = self._requested()
        if state is None:
            state = self._built()
            self._store.ask(state)
        self._steps.note(
            f"rebuild {self._table}: {state.events:,} events; the job swaps the tables"
        )
        self._await(state)
        return state

    def _requested(self) -> Rebuild | None:
        """Return the rebuild that already waits for the job; None without one."""
        requested = {
            rebuild_id for rebuild_id, table in self._store.asked() if table == self._table
        }
        generation = self._entry().generation
        waiting = [
            s for s in self._store.of(self._table) if s.id in requested and s.id != generation
        ]
        return waiting[-1] if waiting else None

    def _built(self) -> Rebuild:
        consumer = tail.open_consumer(self._settings.kafka)
        with closing(consumer):
            explained = ExplainedGaps(self._settings.home / VERIFY_FOLDER / "bronze.json")
            kept_from = partial(self._bronze.kept_from, self._topic)
            gaps = Gaps(consumer, self._topic, explained, kept_from)
            builder = self._builder()
            check_room(self._settings, self._bronze, self._table, self._topic)
            for number in range(ROUNDS_MAX):
                before = builder.state.events
                builder.run(self._feed(builder.state, gaps, first=number == 0))
                if builder.state.events - before <= LEFT_EVENTS:
                    break
            gaps.check_end(builder.state.offsets)
        state = builder.finished()
        for other in self._store.of(self._table):
            if other.id not in (state.id, self._entry().generation):
                self._store.remove(other)
        return state

    def _builder(self) -> Builder:
        """Return the builder of an interrupted rebuild, or a new one."""
        generation = self._entry().generation
        for state in reversed(self._store.of(self._table)):
            if state.id == generation:
                continue  # it is swapped in already; the job removes it
            try:
                builder = self._opened(state)
                builder.begin()
            except RulesChangedError as error:
                self._steps.note(f"rebuild {self._table} starts again: {error}")
                self._store.remove(state)
                continue
            self._steps.note(f"rebuild {self._table} continues after {state.events:,} events")
            return builder
        new = self._opened(self._new())
        new.begin()
        return new

    def _opened(self, state: Rebuild) -> Builder:
        files = ContractFolder(
            self._settings.contracts_folders, self._settings.secret("mask_secret").encode()
        )
        dsn, prefix = self._settings.capture_dsn, self._settings.topic_prefix
        return Builder(self._lake.lake, state, files, dsn, prefix=prefix)

    def _new(self) -> Rebuild:
        schema, source_table = source_table_of(
            self._bronze, self._topic, self._settings.topic_prefix, self._steps.waiting
        )
        rebuild_id = new_id(datetime.now(timezone.utc), uuid.uuid4().hex)
        return Rebuild(rebuild_id, self._table, schema, source_table, self._topic)

    def _feed(self, state: Rebuild, gaps: Gaps, *, first: bool) -> EventsByTime:
        """Return the events that bronze has now and the rebuild has not used yet."""
        progress = Progress(self._steps.waiting, what="events", verb="rebuild")
        partitions = sorted({*self._bronze.partitions(self._topic), *state.offsets})
        events = {}
        for number in partitions:
            start = state.offsets.get(number, 0)
            name = self._table if len(partitions) == 1 else f"{self._table}/{number}"
            if first:
                last = self._bronze.last_offset(self._topic, number)
                progress.expect(name, max(0, last - start))
            added = self._bronze.events(self._topic, number, start, gaps.explain)
            events[number] = progress.counted(name, added)
        before_ms = None
        if len(partitions) > 1:
            before_ms = int(time.time() * 1000) - LEFT_MS
        return EventsByTime(events, before_ms)

    def _await(self, state: Rebuild) -> None:
        """Wait until the rebuilt table runs, as long as the job makes progress."""
        merged_at: object = None
        limit = time.monotonic() + PATIENCE_S
        while True:
            reason = self._store.refusal(state.id)
            if reason is not None:
                raise HeadwaterError(
                    f"the streaming job refused the rebuild of `{self._table}`",
                    detail=reason,
                    hint=f"`./headwater rebuild {self._table}` tries again; the built table is kept",
                )
            entry = self._entry()
            accepted = state.id in (entry.generation, entry.rebuild)
            if entry.generation == state.id and entry.state == "running":
                return
            if accepted and entry.state == STOPPED and entry.tries >= ATTEMPTS_MAX:
                raise HeadwaterError(
                    f"table `{self._table}` is stopped, so the rebuilt table cannot replace it",
                    detail=entry.reason or "",
                    hint="repair the cause; it is tried again by itself, or by `./headwater resume`",
                )
            if accepted and entry.merged_at != merged_at:
                merged_at, limit = entry.merged_at, time.monotonic() + PATIENCE_S
            if time.monotonic() > limit:
                raise HeadwaterError(
                    f"the streaming job did not swap in the new `{self._table}` "
                    f"within {PATIENCE_S:.0f} s",
                    hint="see `./headwater status silver`; the request stays, and the job "
                    "carries it out with its next batch",
                )
            self._steps.waiting(f"rebuild {self._table}: {entry.reason or 'waiting for the job'}")
            time.sleep(POLL_S)

    def _entry(self) -> LedgerEntry:
        return entry_in(self._lake.ledger(), self._table)
