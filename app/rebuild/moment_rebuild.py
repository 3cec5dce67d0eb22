"""Builds a table as it was at a moment, beside the current one: `headwater rebuild TABLE --until …`.

1. Find the last commit of the moment in bronze, and wait until bronze has all events up to it.
2. Build the table from the events of the moment, slice by slice, as every rebuild does; an
   interrupted build continues.
   3. Write it as `silver/<name>` in one commit, and remove the files of the build.
4. Prove it (`moment_proof`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse
from app.printing import Steps
from app.rebuild.extra_tables import ExtraTables, description
from app.rebuild.moment import Cut, Moment, is_beyond
from app.rebuild.moment_proof import DIFFERENT, NOT_PROVED, Proof, prove, prove_by_replay
from app.rebuild.rebuild_gaps import Gaps
from app.rebuild.rebuild_guards import (
    POLL_S,
    SINK_WAIT_S,
    check_room,
    source_table_of,
    topic_in,
)
from app.rebuild.replay_rows import ReplayedRows
from app.verify.verify_bronze import ExplainedGaps
from app.verify.verify_progress import Progress
from app.verify.verify_state import FOLDER as VERIFY_FOLDER
from spark_streaming.batch.rebuild_state import Rebuild, RebuildStore
from spark_streaming.batch.silver_rebuild import Builder, RulesChangedError
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn, lsn_text
from spark_streaming.events.event import Changes
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.events_by_time import EventsByTime
from spark_streaming.reading.written_ends import WrittenEnds
from spark_streaming.rules.contract_folder import ContractFolder, treat
from spark_streaming.storage.lake import QUARANTINE
from spark_streaming.tables.silver_table import row_count

REPLAYED_AT_ONCE = (5_000, 16 << 20)  # events, bytes
ID_PREFIX = "at-"
READ_S = 120.0


@dataclass(frozen=True)
class Built:
    """A table as of a moment: how many events and rows made it, and its proof."""

    name: str
    events: int
    rows: int
    proof: Proof


class MomentRebuild:
    """One table's build as of one moment.

    Args:
        table: silver's name; name: the new table's.
    """

    def __init__(
        self, settings: Settings, table: str, name: str, moment: Moment, steps: Steps
    ) -> None:
        self._settings = settings
        self._table, self._name, self._moment = table, name, moment
        self._steps = steps
        self._lake = Lakehouse(settings)
        self._extra = ExtraTables(self._lake)
        self._store = RebuildStore(self._lake.lake.for_writing())
        self._bronze = Bronze(self._lake.bronze_files())
        self._files = ContractFolder(
            settings.contracts_folders, settings.secret("mask_secret").encode()
        )
        self._cut = Cut(moment)
        self._topic = topic_in(self._lake.ledger(), table)

    def run(self) -> Built:
        """Build the table unless it exists already; prove it in both cases."""
        text = description(self._table, self._moment)
        there = self._extra.find(self._name, text)
        builder = self._builder()
        with closing(tail.open_consumer(self._settings.kafka)) as consumer:
            explained = ExplainedGaps(self._settings.home / VERIFY_FOLDER / "bronze.json")
            kept_from = partial(self._bronze.kept_from, self._topic)
            gaps = Gaps(consumer, self._topic, explained, kept_from)
            self._await_bronze(consumer, gaps)
            if there is None:
                builder.run(self._feed(gaps, builder.state.offsets))
            else:
                self._steps.note(f"silver.{self._name} exists already; only its proof is made")
                self._read_ends(gaps)
        if not self._cut.ends:
            self._store.remove(builder.state)
            raise HeadwaterError(
                f"bronze has no event of `{self._table}` until {lsn_text(self._moment.lsn)}",
                hint="choose a later moment",
            )
        table = there or self._written(builder, text)
        proof = self._proved(table, builder, gaps)
        self._store.remove(builder.state)
        return Built(self._name, self._cut.events, row_count(table), proof)

    def _proved(self, table: DeltaTable, builder: Builder, gaps: Gaps) -> Proof:
        scratch = self._settings.home / "rebuild"
        contract = builder.contract
        self._steps.waiting(f"rebuild {self._name}: comparing it with Delta's time travel")
        proof = prove(
            self._lake, self._table, self._topic, table, contract, self._cut, scratch=scratch
        )
        if proof.verdict == NOT_PROVED:
            self._steps.note(f"rebuild {self._name}: {proof.by}; its events are replayed")
            proof = self._replayed(table, builder, gaps, scratch)
        self._steps.note(f"rebuild {self._name}: {proof.verdict}, {proof.by}")
        for one in proof.differences:
            changed = ", ".join(
                f"{c}: {then!r} then, {now!r} built" for c, then, now in one.columns
            )
            self._steps.note(f"  {one.kind}: {one.key} {changed}".rstrip())
        return proof

    def _replayed(self, table: DeltaTable, builder: Builder, gaps: Gaps, scratch: Path) -> Proof:
        rules = self._files.rules_of(builder.contract)

        def treatment(changes: Changes) -> Changes:
            return treat(changes, rules, self._files.mask_secret)[1]

        with ReplayedRows(builder.contract, scratch, treatment) as replayed:
            self._cut = Cut(self._moment)
            feed = self._feed(gaps, {}, verb="replay")
            while events := feed.take(*REPLAYED_AT_ONCE):
                replayed.add(events)
            return prove_by_replay(
                replayed.rows,
                table,
                builder.contract,
                quarantined=self._quarantined(builder),
                scratch=scratch,
            )

    def _quarantined(self, builder: Builder) -> int:
        """Return how many events the rebuild has put in quarantine."""
        try:
            return row_count(self._lake.lake.below(builder.state.folder).table(QUARANTINE))
        except TableNotFoundError:
            return 0

    def _written(self, builder: Builder, text: str) -> DeltaTable:
        silver = builder.topic.silver
        assert silver is not None
        silver.ensure()
        self._steps.waiting(f"rebuild {self._name}: writing its rows")
        return self._extra.write(self._name, silver.handle(), text)

    def _builder(self) -> Builder:
        """Return the builder of an interrupted rebuild as of the same moment, or a new one."""
        rebuild_id = f"{ID_PREFIX}{self._moment.lsn}"
        schema, source_table = source_table_of(
            self._bronze, self._topic, self._settings.topic_prefix, self._steps.waiting
        )
        new = Rebuild(rebuild_id, self._name, schema, source_table, self._topic)
        for other in self._store.of(self._name):
            if (other.id, other.topic) != (rebuild_id, self._topic):
                self._store.remove(other)
        state = self._store.state(self._name, rebuild_id)
        if state is not None:
            try:
                builder = self._opened(state)
                builder.begin()
                self._steps.note(f"rebuild {self._name} continues after {state.events:,} events")
                return builder
            except RulesChangedError as error:
                self._steps.note(f"rebuild {self._name} starts again: {error}")
                self._store.remove(state)
        check_room(self._settings, self._bronze, self._table, self._topic)
        builder = self._opened(new)
        builder.begin()
        return builder

    def _opened(self, state: Rebuild) -> Builder:
        settings = self._settings
        builder = Builder(
            self._lake.lake, state, self._files, settings.capture_dsn, prefix=settings.topic_prefix
        )
        begins_at = made_again_at(builder.contract)
        if begins_at is not None and begins_at > self._moment.lsn:
            raise HeadwaterError(
                f"the source made `{self._table}` again after {lsn_text(self._moment.lsn)}",
                detail=f"the present table begins at {lsn_text(begins_at)}; earlier events are rows "
                "of another table",
                hint="choose a later moment",
            )
        return builder

    def _read_ends(self, gaps: Gaps) -> None:
        feed = self._feed(gaps, {})
        while feed.take(*REPLAYED_AT_ONCE):
            pass

    def _feed(self, gaps: Gaps, offsets: Mapping[int, int], verb: str = "rebuild") -> EventsByTime:
        """Return the moment's events from these offsets on.

        Each partition is read from its beginning, so that the cut knows where it ends.
        """
        progress = Progress(self._steps.waiting, what="events", verb=verb)
        partitions = self._bronze.partitions(self._topic)
        feed = {}
        for number in partitions:
            name = self._name if len(partitions) == 1 else f"{self._name}/{number}"
            progress.expect(name, self._bronze.last_offset(self._topic, number))
            events = progress.counted(
                name, self._bronze.events(self._topic, number, 0, gaps.explain)
            )
            feed[number] = self._cut.kept(number, events, offsets.get(number, 0))
        return EventsByTime(feed)

    def _await_bronze(self, consumer: Any, gaps: Gaps) -> None:
        """Wait until bronze has every event of the moment that Kafka has.

        Raises: HeadwaterError after SINK_WAIT_S.
        """
        with closing(WrittenEnds(self._settings.kafka, self._settings.topic_prefix)) as ends:
            written = ends() or {}
        tail.await_visible(consumer, [self._topic], written)
        upto = tail.end_offsets(consumer, self._topic)
        limit = time.monotonic() + SINK_WAIT_S
        while True:
            reached = {number: self._bronze_end(number) for number in upto}
            gaps.check_end(reached)
            starts = {n: max(end, gaps.begins.get(n, 0)) for n, end in reached.items()}
            missing = [
                event
                for event in tail.read_between(
                    consumer, self._topic, starts, upto, deadline_s=READ_S
                )
                if event.value is not None and not is_beyond(event, self._moment)
            ]
            if not missing:
                return
            if time.monotonic() > limit:
                raise HeadwaterError(
                    f"bronze lacks the newest {len(missing)} events of {self._topic}",
                    detail=f"Kafka has them; bronze got no further within {SINK_WAIT_S:.0f} s",
                    hint="is the bronze sink running? `./headwater status connect`",
                )
            self._steps.waiting(
                f"rebuild {self._name}: waiting for {len(missing)} events in bronze"
            )
            time.sleep(POLL_S)

    def _bronze_end(self, partition: int) -> int:
        start = self._bronze.last_offset(self._topic, partition)
        end = start
        for event in self._bronze.events(self._topic, partition, start, lambda *_: None):
            end = event.offset + 1
        return end


def forget_unfinished(store: RebuildStore, name: str) -> bool:
    """Remove an unfinished build of a table as of a moment. Returns: whether there was one."""
    found = [state for state in store.of(name) if state.id.startswith(ID_PREFIX)]
    for state in found:
        store.remove(state)
    return bool(found)


def made_again_at(contract: Contract) -> Lsn | None:
    """Return the first position of a table that replaced a dropped one of its name; None if it did not."""
    versions = (*contract.previous_versions, contract)
    own = [one for one in versions if one.oid == contract.oid]
    if len(own) == len(versions):
        return None
    return own[0].begins_at_lsn or own[0].valid_from_lsn


def exit_code(proofs: list[Proof]) -> int:
    """Return 1 if a table differs from its proof, 3 if one could not be proved, else 0."""
    verdicts = {proof.verdict for proof in proofs}
    if DIFFERENT in verdicts:
        return 1
    return 3 if NOT_PROVED in verdicts else 0
