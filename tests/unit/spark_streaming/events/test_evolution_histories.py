"""Random histories that include changes of the table end in the source's rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from spark_streaming.contract.contract import Contract
from spark_streaming.events.arrow_values import missing_value
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.events.row_images import OLD_KEY_HEADER
from spark_streaming.fold.keyed import fold
from spark_streaming.schema.catalog_watch import CatalogWatch
from spark_streaming.schema.evolver import Evolver
from spark_streaming.schema.topic import Topic
from tests.support.examples import examples
from tests.unit.evolving_source import TABLE, EvolvingSource, ModelCatalog
from tests.unit.model import Silver, split
from tests.unit.named_ahead import named_ahead

KINDS = (
    "add_column",
    "drop_column",
    "rename_column",
    "widen_type",
    "key_change",
    "table_truncated",
    "table_recreated",
)


class Job:
    """The job's work on a topic's batches, on a model of silver."""

    def __init__(self, source: EvolvingSource, catalog: ModelCatalog) -> None:
        first = source.states[0][1]
        self.topic = Topic(source.topic, *TABLE, contract=first)
        self.evolver = Evolver(catalog, cast(CatalogWatch, catalog))
        self.silver = Silver(first)
        self.high_water = HighWater()

    def check(self) -> None:
        self.evolver.check([self.topic])

    def run(self, events: list[RawEvent]) -> None:
        plan = self.evolver.plan(self.topic, events)
        assert plan.rejects == []
        for older, change in plan.steps:
            self._merge(older)
            self.follow(change.contract)
        self._merge(plan.events)

    def _merge(self, events: list[RawEvent]) -> None:
        contract = self.topic.reading
        assert contract is not None
        decoded = decode(events, contract, self.high_water)
        folded = fold(decoded.changes, contract, self.silver.moved, self.silver.present)
        assert [r.reason for r in [*decoded.rejects, *folded.rejects]] == []
        self.silver.merge(folded)
        self.high_water = self.high_water.merge(decoded.high_water)

    def follow(self, contract: Contract) -> None:
        old = self.topic.contract
        assert old is not None
        before = {c.attnum: c.name for c in old.columns}
        gone = old.oid != contract.oid
        self.silver.rows = [
            {
                **{
                    c.name: row[before[c.attnum]]
                    if c.attnum in before
                    else missing_value(c).as_py()
                    for c in contract.columns
                },
                "_lsn": row["_lsn"],
                "_committed_at": row["_committed_at"],
            }
            for row in ([] if gone else self.silver.rows)
        ]
        self.silver.contract = contract
        self.topic.adopt(contract)
        self.topic.expect(self.topic.pendings[1:])

    def finish(self, catalog: ModelCatalog) -> None:
        """Silver is complete up to the position at which the catalog is read, so it follows the catalog."""
        for since, _ in catalog.source.states:
            if since > catalog.lsn:
                catalog.lsn = since
                self.check()
        while self.topic.pending is not None:
            self.follow(self.topic.pending.contract)

    def content(self) -> Counter[tuple[Any, ...]]:
        assert self.topic.contract is not None
        names = sorted(c.name for c in self.topic.contract.columns if not c.dropped)
        return Counter(tuple(row[name] for name in names) for row in self.silver.rows)


def _history(
    random: Random,
    kinds: tuple[str, ...],
    steps: int,
    *,
    leaves_out: bool = True,
    names_tell_kinds: bool = False,
) -> tuple[EvolvingSource, Any]:
    source = EvolvingSource(random, kinds)
    source.leaves_out, source.names_tell_kinds = leaves_out, names_tell_kinds
    for _ in range(steps):
        source.step()
    catalog = ModelCatalog(source)
    catalog.lsn = source.states[0][0]
    return source, catalog


def _read_at(source: EvolvingSource, batch: list[RawEvent]) -> int:
    """The log position up to which a batch's events are committed."""
    last = max((event.offset for event in batch), default=-1)
    return next(end for count, end in source.ends if count > last) if batch else 0


@settings(max_examples=examples(120), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_history_with_changes_of_the_table_ends_in_the_sources_rows(seed: int, steps: int) -> None:
    random = Random(seed)
    source, catalog = _history(random, KINDS, steps)
    job = Job(source, catalog)
    for batch in split(source.events, random):
        # The catalog is from the time when the batch was read, or later, because events may be late.
        until = max(catalog.lsn, _read_at(source, batch)) + random.choice([0, 0, 30, 300])
        for since in [since for since, _ in source.states if catalog.lsn < since <= until]:
            catalog.lsn = since
            job.check()
        catalog.lsn = min(until, source.lsn)
        job.check()
        job.run(batch)
    job.finish(catalog)
    assert job.content() == source.content()


def _run_with_looks_at_any_time(
    job: Job, source: EvolvingSource, catalog: ModelCatalog, random: Random
) -> None:
    """All events in batches; the catalog is from the time when each was read, or from the end."""
    for batch in split(source.events, random):
        catalog.lsn = random.choice([source.lsn, max(catalog.lsn, _read_at(source, batch))])
        job.check()
        job.run(batch)
    job.finish(catalog)


@settings(max_examples=examples(80), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_columns_that_come_between_two_looks_are_followed_at_once(seed: int, steps: int) -> None:
    random = Random(seed)
    # Others need intermediate versions, which silver did not see: see the README's known limits.
    kinds = ("add_column", "table_truncated")
    source, catalog = _history(random, kinds, steps)
    job = Job(source, catalog)
    _run_with_looks_at_any_time(job, source, catalog, random)
    assert job.content() == source.content()


@settings(max_examples=examples(120), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_any_changes_between_two_looks_are_followed_where_the_source_notes_them(
    seed: int, steps: int
) -> None:
    random = Random(seed)
    source, catalog = _history(random, (*KINDS, "nothing"), steps)
    catalog.notes = True
    job = Job(source, catalog)
    job.topic.contract = job.silver.contract = replace(source.states[0][1], noted_lsn=catalog.lsn)
    _run_with_looks_at_any_time(job, source, catalog, random)
    assert job.content() == source.content()


def _with_whole_key_changes(batches: list[list[RawEvent]]) -> list[list[RawEvent]]:
    """The batches, never divided between a delete and the create of the same key change."""
    found: list[list[RawEvent]] = []
    for batch in batches:
        resumes = bool(batch) and any(name == OLD_KEY_HEADER for name, _ in batch[0].headers)
        if resumes and any(found):
            next(earlier for earlier in reversed(found) if earlier).append(batch[0])
            batch = batch[1:]
        found.append(batch)
    return found


@settings(max_examples=examples(120), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_rows_that_the_connector_named_ahead_of_the_log_are_read_by_their_own_columns(
    seed: int, steps: int
) -> None:
    random = Random(seed)
    leaves_out = random.random() < 0.5
    # If two later definitions have different types under one name, it is unknown which was meant.
    source, catalog = _history(random, KINDS, steps, leaves_out=leaves_out, names_tell_kinds=True)
    catalog.notes = True
    events, read_at = named_ahead(source, random)
    job = Job(source, catalog)
    job.topic.contract = job.silver.contract = replace(source.states[0][1], noted_lsn=catalog.lsn)
    batches = split(events, random)
    # If the second half of a key change lacks a large value, it goes to quarantine there.
    for batch in _with_whole_key_changes(batches) if leaves_out else batches:
        # Everything that the connector saw in the catalog is still there when its events are read.
        seen = max((read_at.get(event.offset, 0) for event in batch), default=0)
        least = max(catalog.lsn, _read_at(source, batch), seen)
        catalog.lsn = random.choice([source.lsn, least])
        job.check()
        job.run(batch)
    job.finish(catalog)
    assert job.content() == source.content()
