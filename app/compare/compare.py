"""Compares a source table at one instant with the rows that silver must have at that instant.

1. Sum up each side by buckets of the key (`digest.Fingerprint`), in constant memory.
2. If buckets differ, read both sides again, keep the digests of those buckets' rows on disk
   (`spill.Spill`), and cancel out equal ones. Count the rest.
3. Read both sides once more to name the first rows that are left, with both values of each column.

Nearly all tables are equal and need step 1 only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from app.compare.digest import Fingerprint, Keys, Row, bucket_count, digest
from app.compare.explained import NO_EXPLANATIONS, Explanation, Explanations
from app.compare.spill import Spill

__all__ = ["DIFFERENCES_SHOWN", "Comparison", "Difference", "Row", "Rows", "compare"]

DIFFERENCES_SHOWN = 10
# Digests of both sides together; each needs about 60 bytes of disk.
SPILLED_ROWS_MAX = 50_000_000

Rows = Callable[[], Iterable[Row]]
Unequal = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Difference:
    """One row that differs.

    Args:
        kind: `missing` (silver lacks the row), `extra` (only silver has it) or `differs`.
        key: the key as text; for a keyless table the whole row.
        columns: for `differs`, (name, value in the source, value in silver) of each differing
            column.
    """

    kind: str
    key: str
    columns: tuple[Unequal, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The outcome of a comparison.

    Args:
        rows: rows of the source that were compared.
        missing, extra, differing: how many rows differ, by kind.
        at_least: too many rows differ to count them all, so the counts are lower bounds.
        differences: the first rows that differ.
        explained: rows that differ because their newest event is in quarantine; they count
            nowhere else.
        explanations: the first of those.
    """

    rows: int = 0
    missing: int = 0
    extra: int = 0
    differing: int = 0
    at_least: bool = False
    differences: tuple[Difference, ...] = ()
    explained: int = 0
    explanations: tuple[Explanation, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether every difference is explained by quarantine."""
        return not (self.missing or self.extra or self.differing or self.at_least)

    def __add__(self, other: Comparison) -> Comparison:
        """Add up two parts of one table."""
        return Comparison(
            self.rows + other.rows,
            self.missing + other.missing,
            self.extra + other.extra,
            self.differing + other.differing,
            self.at_least or other.at_least,
            (self.differences + other.differences)[:DIFFERENCES_SHOWN],
            self.explained + other.explained,
            (self.explanations + other.explanations)[:DIFFERENCES_SHOWN],
        )


@dataclass
class _Remainder:
    """Counts the rows that remain after equal rows of both sides cancel out.

    `suspects` are key digests of rows to name.
    """

    missing: int = 0
    extra: int = 0
    differing: int = 0
    suspects: set[bytes] = field(default_factory=set)
    explained: int = 0
    explanations: list[Explanation] = field(default_factory=list)

    def add(self, key: bytes, in_source: int, in_silver: int, *, keyed: bool) -> None:
        """Count a key: how many of its rows only the source has, and how many only silver has."""
        both = min(in_source, in_silver) if keyed else 0
        self.differing += both
        self.missing += in_source - both
        self.extra += in_silver - both
        if (in_source or in_silver) and len(self.suspects) < DIFFERENCES_SHOWN:
            self.suspects.add(key)

    def add_explained(self, key: bytes, rows: int, explanations: Explanations) -> None:
        """Count rows of a key that quarantine explains."""
        self.explained += rows
        if rows and len(self.explanations) < DIFFERENCES_SHOWN:
            self.explanations.append(explanations.explanation(key))


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
    explanations: Callable[[], Explanations] = lambda: NO_EXPLANATIONS,
) -> Comparison:
    """Compare two multisets of rows; rows are paired by key if the table has one.

    Args:
        source, silver: return one side's rows in any order, as canonical texts in the order of
            `columns`; called up to three times, with the same rows each time.
        columns: the columns' names.
        key_positions: the positions of the key's columns; empty for a keyless table.
        scratch: a folder for temporary files, which are removed afterwards.
        expected_rows: about how many rows a side has; 0 if not known.
        buckets: how many buckets to use; 0 chooses by `expected_rows`.
        spilled_rows_max: how many digests of both sides may be kept on disk.
        explanations: reads the quarantine; called only if rows differ.
    """
    keys = Keys(key_positions)
    count = buckets or bucket_count(expected_rows)
    in_source, in_silver = Fingerprint(keys, count), Fingerprint(keys, count)
    for row in source():
        in_source.add(row)
    for row in silver():
        in_silver.add(row)
    result = Comparison(rows=in_source.rows)
    differing = in_source.differing(in_silver)
    if not differing:
        return result
    chosen, at_least = _affordable(differing, in_source, in_silver, spilled_rows_max)
    left = _cancel(
        source, silver, keys, chosen, count, bool(key_positions), scratch, explanations()
    )
    if at_least:
        for bucket in set(differing) - chosen:
            surplus = in_source.counts[bucket] - in_silver.counts[bucket]
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
        explanations=tuple(sorted(left.explanations, key=lambda one: one.key)),
    )


def _affordable(
    differing: list[int], source: Fingerprint, silver: Fingerprint, rows_max: int
) -> tuple[set[int], bool]:
    """Choose as many differing buckets as `rows_max` allows; return whether some are left out."""
    chosen: set[int] = set()
    rows = 0
    for bucket in differing:
        rows += source.counts[bucket] + silver.counts[bucket]
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
    explanations: Explanations,
) -> _Remainder:
    """Count the rows of the chosen buckets that only one side has."""
    # Rows with an entry in quarantine, by key: (row digests of the source, of silver).
    quarantined: dict[bytes, tuple[Counter[bytes], Counter[bytes]]] = {}

    def digests(rows: Iterable[Row], side: int) -> Iterator[tuple[bytes, bytes]]:
        for row in rows:
            if keys.bucket(row, buckets) not in chosen:
                continue
            key = keys.digest(row)
            if key in explanations:
                quarantined.setdefault(key, (Counter(), Counter()))[side][digest(row)] += 1
            else:
                yield key, digest(row)

    left = _Remainder()
    with Spill(scratch) as spill:
        spill.add(digests(source(), 0), 1)
        spill.add(digests(silver(), 1), -1)
        for key, in_source, in_silver in spill.remainder():
            left.add(key, in_source, in_silver, keyed=keyed)
    for key, (ours, theirs) in quarantined.items():
        if ours == theirs:
            continue
        explained = explanations.explain(key, list(ours.elements()), list(theirs.elements()))
        if explained.whole:
            left.add_explained(key, 1, explanations)
            continue
        missing, extra = (ours - theirs).total(), (theirs - ours).total()
        left.add_explained(key, explained.missing + explained.extra, explanations)
        left.add(key, missing - explained.missing, extra - explained.extra, keyed=keyed)
    return left


def _named(
    source: Rows,
    silver: Rows,
    keys: Keys,
    columns: Sequence[str],
    key_positions: Sequence[int],
    suspects: set[bytes],
) -> Iterator[Difference]:
    """Name the suspects' rows in the order of their keys."""
    shown = list(key_positions) or list(range(len(columns)))

    def text(row: Row) -> str:
        return ", ".join(f"{columns[i]}={row[i]}" for i in shown)

    in_source = _rows_of(suspects, source(), keys)
    in_silver = _rows_of(suspects, silver(), keys)
    named: list[Difference] = []
    for key in suspects:
        ours, theirs = in_source.get(key, Counter()), in_silver.get(key, Counter())
        missing = list(islice((ours - theirs).elements(), DIFFERENCES_SHOWN))
        extra = list(islice((theirs - ours).elements(), DIFFERENCES_SHOWN))
        while key_positions and missing and extra:
            row, wrong = missing.pop(0), extra.pop(0)
            pairs = zip(columns, row, wrong, strict=True)
            named.append(Difference("differs", text(row), tuple(p for p in pairs if p[1] != p[2])))
        named += [Difference("missing", text(row)) for row in missing]
        named += [Difference("extra", text(row)) for row in extra]
    yield from sorted(named, key=lambda d: (d.key, d.kind))[:DIFFERENCES_SHOWN]


def _rows_of(suspects: set[bytes], rows: Iterable[Row], keys: Keys) -> dict[bytes, Counter[Row]]:
    """Collect up to DIFFERENCES_SHOWN distinct rows of each suspect, with their copies."""
    rows_by_key: dict[bytes, Counter[Row]] = {}
    for row in rows:
        key = keys.digest(row)
        if key in suspects:
            copies = rows_by_key.setdefault(key, Counter())
            if row in copies or len(copies) < DIFFERENCES_SHOWN:
                copies[row] += 1
    return rows_by_key
