"""Compare a source table at one instant with what silver must hold at that instant.

What silver must hold is its rows at a pinned Delta version, plus the events after that
version whose transactions the source's snapshot sees. Both sides are compared row by row in
one canonical text form, by digest; the first rows that differ are then named with both values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

DIFFERENCES_SHOWN = 10
_DIGEST_BYTES = 16

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Difference:
    """One row that differs: `kind` is missing (in silver), extra (in silver) or differs.

    `key` is the key's text; `column`, `source` and `silver` name the first differing value.
    """

    kind: str
    key: str
    column: str = ""
    source: str | None = None
    silver: str | None = None


@dataclass
class Comparison:
    """The outcome for one table: rows of the source, how many differ, the first that do."""

    rows: int = 0
    missing: int = 0
    extra: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not (self.missing or self.extra or self.differing)


def compare_keyed(
    source: Iterable[Row],
    silver: Callable[[], Iterator[Row]],
    columns: list[str],
    key_positions: list[int],
) -> Comparison:
    """Compare two sets of rows by key.

    Args:
        source: the source's rows, canonical text in the order of `columns`.
        silver: gives the rows that silver must hold, same form; called again to name
            differences.
        columns: the columns' names.
        key_positions: where the key's columns stand among them; not empty.
    """

    def key_of(row: Row) -> bytes:
        return _digest(tuple(row[i] for i in key_positions))

    held = {key_of(row): _digest(row) for row in silver()}
    result = Comparison()
    suspects: dict[bytes, Row | None] = {}
    for row in source:
        result.rows += 1
        key = key_of(row)
        found = held.pop(key, None)
        if found is None:
            result.missing += 1
        elif found != _digest(row):
            result.differing += 1
        else:
            continue
        if len(suspects) < DIFFERENCES_SHOWN:
            suspects[key] = row
    result.extra = len(held)
    for key in list(held)[: DIFFERENCES_SHOWN - len(suspects)]:
        suspects[key] = None
    if suspects:
        result.differences = _explain(suspects, silver(), key_of, columns, key_positions)
    return result


def compare_bags(
    source: Iterable[Row], silver: Callable[[], Iterator[Row]], columns: list[str]
) -> Comparison:
    """Compare two multisets of rows, for tables without a key; forms as in `compare_keyed`."""
    held = Counter(_digest(row) for row in silver())
    result = Comparison()
    for row in source:
        result.rows += 1
        digest = _digest(row)
        if held[digest] > 0:
            held[digest] -= 1
            continue
        result.missing += 1
        if len(result.differences) < DIFFERENCES_SHOWN:
            result.differences.append(Difference("missing", _bag_text(row, columns)))
    surplus = +held
    result.extra = sum(surplus.values())
    if surplus:
        for row in silver():
            if len(result.differences) >= DIFFERENCES_SHOWN:
                break
            if surplus[_digest(row)] > 0:
                surplus[_digest(row)] -= 1
                result.differences.append(Difference("extra", _bag_text(row, columns)))
    return result


def _explain(
    suspects: dict[bytes, Row | None],
    silver: Iterator[Row],
    key_of: Callable[[Row], bytes],
    columns: list[str],
    key_positions: list[int],
) -> list[Difference]:
    held = {key: row for row in silver if (key := key_of(row)) in suspects}
    found = []
    for key, source_row in suspects.items():
        silver_row = held.get(key)
        shown = source_row or silver_row
        text = ", ".join(f"{columns[i]}={shown[i]}" for i in key_positions) if shown else "?"
        if source_row is None:
            found.append(Difference("extra", text))
        elif silver_row is None:
            found.append(Difference("missing", text))
        else:
            pairs = zip(columns, source_row, silver_row, strict=True)
            column, ours, theirs = next(pair for pair in pairs if pair[1] != pair[2])
            found.append(Difference("differs", text, column, ours, theirs))
    return found


def _digest(row: Row) -> bytes:
    # Lengths keep ("a", "bc") apart from ("ab", "c"); None has a mark of its own.
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for value in row:
        if value is None:
            digest.update(b"n")
        else:
            encoded = value.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded))
            digest.update(encoded)
    return digest.digest()


def _bag_text(row: Row, columns: list[str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(columns, row, strict=True))
