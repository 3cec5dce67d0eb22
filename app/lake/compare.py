"""Compare a source table at one instant with what silver must hold at that instant.

1. Sum up each side by buckets of the key (`digest.Fingerprint`): constant memory, no order.
2. Where buckets differ, read both sides again, keep the digests of those buckets' rows on disk
   (`spill.Spill`), and let them cancel out. What is left is counted.
3. Read again for the first rows that are left, and name them with both values of each column.

Equal tables, nearly all of them, end after step 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from app.lake.digest import Fingerprint, Keys, Row, bucket_count, digest
from app.lake.excuses import NOTHING_EXCUSED, Excused, Excuses
from app.lake.spill import Spill

__all__ = ["DIFFERENCES_SHOWN", "Comparison", "Difference", "Row", "Rows", "compare"]

DIFFERENCES_SHOWN = 10
# About 60 bytes of disk each, both sides together.
SPILLED_ROWS_MAX = 50_000_000

Rows = Callable[[], Iterable[Row]]
Unequal = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Difference:
    """One row that differs: `kind` is missing (in silver), extra (in silver) or differs.

    `key` is the key's text (of a table without a key the whole row's); `columns` holds, of a row
    that differs, (name, value in the source, value in silver) for each column that does.
    """

    kind: str
    key: str
    columns: tuple[Unequal, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The outcome: rows of the source, how many differ, the first that do.

    `at_least`: so much differs that not all of it was counted; the counts are lower bounds.
    `explained` rows differ because their newest event is in quarantine, and count nowhere else;
    `excused` names the first of them.
    """

    rows: int = 0
    missing: int = 0
    extra: int = 0
    differing: int = 0
    at_least: bool = False
    differences: tuple[Difference, ...] = ()
    explained: int = 0
    excused: tuple[Excused, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether nothing differs but what quarantine explains."""
        return not (self.missing or self.extra or self.differing or self.at_least)

    def __add__(self, other: Comparison) -> Comparison:
        """Both parts of one table together."""
        return Comparison(
            self.rows + other.rows,
            self.missing + other.missing,
            self.extra + other.extra,
            self.differing + other.differing,
            self.at_least or other.at_least,
            (self.differences + other.differences)[:DIFFERENCES_SHOWN],
            self.explained + other.explained,
            (self.excused + other.excused)[:DIFFERENCES_SHOWN],
        )


@dataclass
class _Left:
    """What is left after the rows that both sides hold have cancelled out."""

    missing: int = 0
    extra: int = 0
    differing: int = 0
    suspects: set[bytes] = field(default_factory=set)
    explained: int = 0
    excused: list[Excused] = field(default_factory=list)

    def add(self, key: bytes, ours: int, theirs: int, *, keyed: bool) -> None:
        """Count a key that has so many rows which only the source, or only silver, holds."""
        both = min(ours, theirs) if keyed else 0
        self.differing += both
        self.missing += ours - both
        self.extra += theirs - both
        if (ours or theirs) and len(self.suspects) < DIFFERENCES_SHOWN:
            self.suspects.add(key)

    def excuse(self, key: bytes, rows: int, excuses: Excuses) -> None:
        """Count a key's rows that quarantine explains."""
        self.explained += rows
        if rows and len(self.excused) < DIFFERENCES_SHOWN:
            self.excused.append(excuses.told(key))


def compare(
    source: Rows,
    silver: Rows,
    columns: Sequence[str],
    key_positions: Sequence[int],
    *,
    scratch: Path,
    expected_rows: int = 0,
    buckets: int = 0,
    spilled_rows_max: int = SPILLED_ROWS_MAX,
    excuses: Callable[[], Excuses] = lambda: NOTHING_EXCUSED,
) -> Comparison:
    """Compare two multisets of rows, paired by key where the table has one.

    Args:
        source, silver: each gives its side's rows, canonical text in the order of `columns`, the
            same ones whenever it is called, in any order; called up to three times.
        columns: the columns' names.
        key_positions: where the key's columns stand among them; empty for a table without a key.
        scratch: a folder for temporary files; what is written there is removed again.
        expected_rows: about how many rows a side has; 0 where nobody knows.
        buckets: into how many parts the rows are split; 0 chooses by `expected_rows`.
        spilled_rows_max: digests kept on disk, both sides together.
        excuses: reads what is in quarantine; asked only where something differs.
    """
    keys = Keys(key_positions)
    count = buckets or bucket_count(expected_rows)
    ours, theirs = Fingerprint(keys, count), Fingerprint(keys, count)
    for row in source():
        ours.add(row)
    for row in silver():
        theirs.add(row)
    result = Comparison(rows=ours.rows)
    differing = ours.differing(theirs)
    if not differing:
        return result
    chosen, at_least = _affordable(differing, ours, theirs, spilled_rows_max)
    left = _cancel(source, silver, keys, chosen, count, bool(key_positions), scratch, excuses())
    if at_least:
        for bucket in set(differing) - chosen:
            surplus = ours.counts[bucket] - theirs.counts[bucket]
            left.missing += max(surplus, 0)
            left.extra += max(-surplus, 0)
    return replace(
        result,
        missing=left.missing,
        extra=left.extra,
        differing=left.differing,
        at_least=at_least,
        differences=tuple(_named(source, silver, keys, columns, key_positions, left.suspects)),
        explained=left.explained,
        excused=tuple(sorted(left.excused, key=lambda one: one.key)),
    )


def _affordable(
    differing: list[int], ours: Fingerprint, theirs: Fingerprint, rows_max: int
) -> tuple[set[int], bool]:
    """As many of the buckets as may be looked at closely; whether some were left out."""
    chosen: set[int] = set()
    rows = 0
    for bucket in differing:
        rows += ours.counts[bucket] + theirs.counts[bucket]
        if chosen and rows > rows_max:
            break
        chosen.add(bucket)
    return chosen, len(chosen) < len(differing)


def _cancel(
    source: Rows,
    silver: Rows,
    keys: Keys,
    chosen: set[int],
    buckets: int,
    keyed: bool,
    scratch: Path,
    excuses: Excuses,
) -> _Left:
    """Count what only one side holds, among the rows of the chosen buckets."""
    # Rows of which quarantine has something to say: (the source's, silver's) by key.
    apart: dict[bytes, tuple[Counter[bytes], Counter[bytes]]] = {}

    def digests(rows: Iterable[Row], side: int) -> Iterator[tuple[bytes, bytes]]:
        for row in rows:
            if keys.bucket(row, buckets) not in chosen:
                continue
            key = keys.digest(row)
            if key in excuses:
                apart.setdefault(key, (Counter(), Counter()))[side][digest(row)] += 1
            else:
                yield key, digest(row)

    left = _Left()
    with Spill(scratch) as spill:
        spill.add(digests(source(), 0), 1)
        spill.add(digests(silver(), 1), -1)
        for key, ours, theirs in spill.remainder():
            left.add(key, ours, theirs, keyed=keyed)
    for key, (mine, other) in apart.items():
        if mine == other:
            continue
        judged = excuses.judge(key, list(mine.elements()), list(other.elements()))
        if judged.whole:
            left.excuse(key, 1, excuses)
            continue
        missing, extra = (mine - other).total(), (other - mine).total()
        left.excuse(key, judged.missing + judged.extra, excuses)
        left.add(key, missing - judged.missing, extra - judged.extra, keyed=keyed)
    return left


def _named(
    source: Rows,
    silver: Rows,
    keys: Keys,
    columns: Sequence[str],
    key_positions: Sequence[int],
    suspects: set[bytes],
) -> Iterator[Difference]:
    """Name the suspects' rows, in the order of their keys' texts."""
    shown = list(key_positions) or list(range(len(columns)))

    def text(row: Row) -> str:
        return ", ".join(f"{columns[i]}={row[i]}" for i in shown)

    ours = _collected(source(), keys, suspects)
    theirs = _collected(silver(), keys, suspects)
    found: list[Difference] = []
    for key in suspects:
        mine, other = ours.get(key, Counter()), theirs.get(key, Counter())
        only_ours = list(islice((mine - other).elements(), DIFFERENCES_SHOWN))
        only_theirs = list(islice((other - mine).elements(), DIFFERENCES_SHOWN))
        while key_positions and only_ours and only_theirs:
            row, wrong = only_ours.pop(0), only_theirs.pop(0)
            pairs = zip(columns, row, wrong, strict=True)
            found.append(Difference("differs", text(row), tuple(p for p in pairs if p[1] != p[2])))
        found += [Difference("missing", text(row)) for row in only_ours]
        found += [Difference("extra", text(row)) for row in only_theirs]
    yield from sorted(found, key=lambda d: (d.key, d.kind))[:DIFFERENCES_SHOWN]


def _collected(rows: Iterable[Row], keys: Keys, suspects: set[bytes]) -> dict[bytes, Counter[Row]]:
    found: dict[bytes, Counter[Row]] = {}
    for row in rows:
        key = keys.digest(row)
        if key in suspects:
            copies = found.setdefault(key, Counter())
            if row in copies or len(copies) < DIFFERENCES_SHOWN:
                copies[row] += 1
    return found
