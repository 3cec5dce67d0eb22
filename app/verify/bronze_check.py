"""Checks that a bronze partition has every offset from the first to the last exactly once.

Bronze must have each committed record that Kafka still has exactly once, with the same bytes; an
erased event's place must be there, without its bytes.
For older offsets, the objects themselves show which had no record: transaction markers and
aborted records (`Proof`). Objects of older releases do not show it: before each of their records
one offset may be missing, the marker that ends a transaction. For wider gaps, the caller gives
those that Kafka explained earlier (`explained`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from app.verify.bronze_records import ERASED, Line, first_offset
from spark_streaming.reading.bronze_names import packed_span
from spark_streaming.reading.bronze_proof import MARKER_OFFSETS_MAX, unproven

FINDINGS_SHOWN = 10
EXPLAINED_MAX = 1_000

Gap = tuple[int, int]


class Committed(NamedTuple):
    """A record as Kafka delivers it: its offset, and the digest of its content."""

    offset: int
    digest: bytes


@dataclass(frozen=True)
class Finding:
    """A problem: its `kind`, the first and last offset concerned, how many offsets, and where.

    Kinds: `missing` (Kafka has the records, bronze does not), `gap` (offsets are missing and
    Kafka does not have them any more), `repeat` (in bronze more than once), `differs` (other bytes
    than in Kafka), `uncommitted` (in bronze, though Kafka does not deliver it), `misplaced` (not
    in the object that its offset belongs to), `unreadable`.
    """

    kind: str
    first: int
    last: int
    count: int
    where: str

    def message(self) -> str:
        """Return the finding in one line."""
        offsets = f"offset {self.first}" if self.first == self.last else f"offsets {self.span}"
        return f"{self.kind}: {offsets} ({self.count}): {self.where}"

    @property
    def span(self) -> str:
        return f"{self.first} to {self.last}"


@dataclass
class PartitionReport:
    """The counts and findings of one partition.

    `counts` has the number of findings by kind; `findings` has the first ones; `compared` counts
    the records that Kafka still had, `erased` those whose content was erased. Before `kept_from` all was deleted by age.
    """

    first: int | None = None
    last: int | None = None
    records: int = 0
    objects: int = 0
    compared: int = 0
    erased: int = 0
    kept_from: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    explained: list[Gap] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.counts

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep the first FINDINGS_SHOWN."""
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + finding.count
        if len(self.findings) < FINDINGS_SHOWN:
            self.findings.append(finding)


def check_partition(
    lines: Iterable[Line],
    committed: Iterable[Committed],
    kafka_from: int,
    *,
    explained: Iterable[Gap] = (),
    kept_from: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> PartitionReport:
    """Check one partition in one pass over bronze and Kafka.

    Args:
        lines: bronze's lines up to Kafka's end, objects in the order of their names.
        committed: Kafka's committed records from `kafka_from` on, in order.
        kafka_from: the first offset that Kafka still has (the partition's end if it has none).
        explained: gaps (first, last) that Kafka once showed to hold no committed record.
        kept_from: earlier offsets were deleted by age.
        tick: called for each line.
    Returns: a report; its `explained` has the given gaps and those that Kafka explains now.
    """
    check = _Check(iter(committed), kafka_from, sorted(explained))
    check.report.kept_from = kept_from
    for line in lines:
        check.add(line)
        tick()
    return check.finish()


class _Check:
    def __init__(
        self, committed: Iterator[Committed], kafka_from: int, explained: list[Gap]
    ) -> None:
        self.report = PartitionReport(explained=list(explained))
        self._known = set(explained)
        self._lost = False  # Kafka has records in the gap before the current line
        self._committed = committed
        self._kafka_from = kafka_from
        self._next = next(committed, None)
        self._path = ""
        self._missing: list[int] = []  # first, last and count of the current run
        self._after = "its beginning"

    def add(self, line: Line) -> None:
        """Check the next line of bronze."""
        report = self.report
        if line.path != self._path:
            self._new_object(line)
        if report.last is not None and line.offset <= report.last:
            report.add(Finding("repeat", line.offset, line.offset, 1, f"again in {line.path}"))
            return
        self._lost = False
        if line.offset >= self._kafka_from:
            self._against_kafka(line)
        self._continuity(line)
        if report.first is None:
            report.first = line.offset
        report.last = line.offset
        report.records += 1
        report.erased += line.digest == ERASED
        self._after = line.path

    def finish(self) -> PartitionReport:
        """Report the records that Kafka has after the last line as missing; return the report."""
        while self._next is not None:
            self._run(self._next.offset)
            self._advance()
        self._end_run("its end")
        return self.report

    def _new_object(self, line: Line) -> None:
        self._path = line.path
        self.report.objects += 1
        begun = first_offset(line.path)
        # A packed object may begin with offsets that were read before they were packed.
        seen = packed_span(line.path) is not None and begun <= (self.report.last or 0)
        if begun != line.offset and not seen:
            where = f"{line.path} begins with it"
            self.report.add(Finding("misplaced", line.offset, line.offset, 1, where))

    def _against_kafka(self, line: Line) -> None:
        while self._next is not None and self._next.offset < line.offset:
            self._run(self._next.offset)
            self._advance()
        self._end_run(line.path)
        if self._next is None or self._next.offset > line.offset:
            where = f"in {line.path}, not among Kafka's committed records"
            self.report.add(Finding("uncommitted", line.offset, line.offset, 1, where))
            return
        if line.digest not in (self._next.digest, ERASED):
            where = f"in {line.path}: other bytes than in Kafka"
            self.report.add(Finding("differs", line.offset, line.offset, 1, where))
        self._advance()

    def _advance(self) -> None:
        self.report.compared += 1
        self._next = next(self._committed, None)

    def _run(self, offset: int) -> None:
        self._lost = True
        if not self._missing:
            self._missing = [offset, offset, 0]
        self._missing[1] = offset
        self._missing[2] += 1

    def _end_run(self, before: str) -> None:
        if self._missing:
            first, last, count = self._missing
            where = f"between {self._after} and {before}; Kafka has them"
            self.report.add(Finding("missing", first, last, count, where))
            self._missing = []

    def _continuity(self, line: Line) -> None:
        """Check the gap before a line whose records Kafka does not have any more."""
        report = self.report
        begin = report.kept_from if report.last is None else report.last + 1
        missing = unproven(line.proof, begin, line.offset - 1) if begin < line.offset else None
        if missing is None:
            return
        if begin >= self._kafka_from:
            if not self._lost and missing not in self._known and len(self._known) < EXPLAINED_MAX:
                self._known.add(missing)
                report.explained.append(missing)
            return
        first, last = missing[0], min(missing[1], self._kafka_from - 1)
        count = without(first, last, report.explained)
        if count > (0 if line.proof else MARKER_OFFSETS_MAX):
            where = f"between {self._after} and {line.path}; Kafka does not have them any more"
            report.add(Finding("gap", first, last, count, where))


def without(first: int, last: int, explained: list[Gap]) -> int:
    """Count the offsets from `first` to `last` that are in none of the gaps (first, last)."""
    count = max(0, last - first + 1)
    for low, high in explained:
        count -= max(0, min(high, last) - max(low, first) + 1)
    return count
