"""Verifies one table in parts: cuts it, compares each part, keeps the results."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from app.compare.compare import Comparison, Rows, compare
from app.compare.instant import Instant, TableAtInstant
from app.compare.ranges import WHOLE, KeyOrder, KeyRange, cut, order_of, pick, sample_keys, size_of
from app.compare.silver_rows import batch_rows
from app.errors import HeadwaterError
from app.verify.verdict import Verdict
from app.verify.verify_progress import Progress
from app.verify.verify_state import Part, TableState
from spark_streaming.contract.canonical import SESSION_SETTINGS, source_select
from spark_streaming.contract.lsn import LOG_START, Lsn

SOURCE_FETCH_ROWS = 10_000
# Rows per fetch if neither side knows how many rows there are.
SOURCE_FETCH_ROWS_BLIND = 500

Ranges = tuple[KeyRange, ...]
Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Sample:
    """How much of a table to compare: `rows` of it, or `share` (0 to 1); one of them is None."""

    rows: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> Sample:
        """Parse `10000` or `5%`; raises HeadwaterError for anything else."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", text)
        if match and match[2] and 0 < float(match[1]) <= 100:
            return cls(share=float(match[1]) / 100)
        if match and not match[2] and "." not in match[1] and int(match[1]) > 0:
            return cls(rows=int(match[1]))
        raise HeadwaterError(
            f"`{text}` is no sample", hint="give a number of rows (10000) or a share (5%)"
        )

    def of(self, rows: int) -> float:
        """Return the share (0 to 1) of a table with `rows` rows that is compared."""
        return self.share if self.share is not None else min(1.0, (self.rows or 0) / max(rows, 1))


@dataclass
class Work:
    """One table under verification.

    Args:
        verdict: the result, complete after `conclude`.
        parts: the ranges of the key of each part.
        results, lsns: by part, the comparison and the LSN of its instant.
        todo: the parts still to compare.
        order: how the key is ordered; None if the table is one part.
        made_of: (oid in the source, identity in silver); it changes when a table is created again.
    """

    verdict: Verdict
    parts: list[Ranges] = field(default_factory=list)
    results: dict[int, Comparison] = field(default_factory=dict)
    lsns: dict[int, Lsn] = field(default_factory=dict)
    todo: list[int] = field(default_factory=list)
    planned: bool = False
    rows_about: int = 0
    source_fetch: int = SOURCE_FETCH_ROWS
    order: KeyOrder | None = None
    made_of: tuple[int, str] = (0, "")

    @property
    def name(self) -> str:
        return self.verdict.table

    def repeat_differing(self) -> bool:
        """Put the parts that differ on the list again; return whether there are any."""
        self.todo = [i for i, result in self.results.items() if not result.equal]
        return bool(self.todo)

    def plan(
        self,
        at: TableAtInstant,
        instant: Instant,
        sample: Sample | None,
        part_rows: int,
        saved: TableState | None,
    ) -> None:
        """Cut the table into parts, or use those of an interrupted run."""
        connection, contract = instant.connection, at.contract
        known, size = size_of(connection, contract.schema, contract.table)
        self.rows_about = max(known, at.rows_about)
        self.source_fetch = (
            batch_rows(size, self.rows_about, SOURCE_FETCH_ROWS)
            if self.rows_about
            else SOURCE_FETCH_ROWS_BLIND
        )
        self.made_of = (at.oid, at.table_id)
        order = order_of(contract, connection)
        if order is not None and order.column.name in at.masked:
            order = None  # masked keys have another order than the source's keys
        share = sample.of(self.rows_about) if sample else 1.0
        self.parts = [WHOLE]
        if saved is not None and (saved.oid, saved.table_id) == self.made_of:
            self.order = order
            self._restore(saved)
        elif order is not None and share < 1:
            keys = sample_keys(connection, order, self.rows_about)
            self.parts = [pick(keys, order, share, random.Random())]
            self.order = order
        elif order is not None and self.rows_about > part_rows:
            wanted = min(-(-self.rows_about // part_rows), order.ranges_max)
            keys = sample_keys(connection, order, self.rows_about)
            self.parts = [(one,) for one in cut(keys, order, wanted)]
            self.order = order
        self.todo = [i for i in range(len(self.parts)) if i not in self.results]
        self.planned = True

    def _restore(self, saved: TableState) -> None:
        self.parts = [(KeyRange(low, high),) for low, high in saved.ranges]
        places = {part: i for i, (part,) in enumerate(self.parts)}
        for done in saved.equal:
            place = places.get(KeyRange(done.low, done.high))
            if place is not None:
                self.results[place] = Comparison(rows=done.rows)
                self.lsns[place] = done.lsn

    def state(self) -> TableState:
        """Return the state from which an interrupted run can resume."""
        ranges = [part[0] for part in self.parts]
        return TableState(
            oid=self.made_of[0],
            table_id=self.made_of[1],
            ranges=[(one.low, one.high) for one in ranges],
            equal=[
                Part(low=ranges[i].low, high=ranges[i].high, rows=result.rows, lsn=self.lsns[i])
                for i, result in self.results.items()
                if result.equal and not result.explained
            ],
        )

    def run(
        self, part: int, at: TableAtInstant, instant: Instant, scratch: Path, progress: Progress
    ) -> None:
        """Compare one part at the instant."""
        prediction, contract, ranges = at.prediction, at.contract, self.parts[part]
        assert prediction is not None
        columns = [column.name for column in contract.columns]
        condition = (
            self.order.source_condition(ranges, instant.connection) if self.order else "true"
        )
        query = source_select(contract, condition)
        expect = at.expect or tuple
        source: Rows = lambda: progress.counted(  # noqa: E731
            self.name, map(expect, source_rows(instant.connection, query, self.source_fetch))
        )
        silver: Rows = lambda: progress.counted(  # noqa: E731
            self.name, prediction.rows(self.order, ranges)
        )
        self.results[part] = compare(
            source,
            silver,
            columns,
            [columns.index(name) for name in contract.key],
            scratch=scratch,
            expected_rows=self.rows_about // len(self.parts),
            explanations=at.explanations,
        )
        self.lsns[part] = instant.lsn
        self.todo.remove(part)
        self.verdict.version = at.version
        self.verdict.rejected = prediction.rejected

    def conclude(self) -> None:
        """Add up the parts in the verdict."""
        verdict = self.verdict
        verdict.comparison = sum(
            (self.results[i] for i in sorted(self.results)), start=Comparison()
        )
        verdict.lsn = min(self.lsns.values(), default=LOG_START)
        if any(not r.whole for part in self.parts[:1] for r in part) and len(self.parts) == 1:
            rows = verdict.comparison.rows
            verdict.checked_pct = min(100.0, 100 * rows / max(self.rows_about, 1))


def source_rows(
    connection: psycopg.Connection[tuple[object, ...]], query: str, fetch_rows: int
) -> Iterator[Row]:
    """Yield the rows of a query as canonical texts, with `fetch_rows` in memory at a time."""
    for statement in SESSION_SETTINGS:
        connection.execute(statement.encode())
    with connection.cursor(name="headwater_verify") as cursor:
        cursor.itersize = fetch_rows
        cursor.execute(query.encode())
        for row in cursor:
            yield tuple(None if value is None else str(value) for value in row)
