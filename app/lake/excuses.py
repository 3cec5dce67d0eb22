"""Rows that differ because their newest event is in quarantine: what of the source silver lacks.

An entry of quarantine that is not resolved excuses its row only as far as it says what the source
has: where its event can be read, the source's row must be the event's. A row whose later event
was lost is not excused by an older entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.lake.digest import Keys, Row, digest
from spark_streaming.canonical import canonical_row, silver_texts
from spark_streaming.contract import Contract
from spark_streaming.convert import convert
from spark_streaming.envelope import HighWater, decode
from spark_streaming.events import Change, Changes, RawEvent, RawKey
from spark_streaming.held import describe

# Some 300 bytes each; what is beyond stays unexplained, and verify says so.
ENTRIES_MAX = 100_000
# In place of a row's digest: the source has no such row; and: what it has cannot be told.
ABSENT = b""
UNKNOWN = b"?"


@dataclass(frozen=True)
class Excused:
    """One row that quarantine explains: its key as text, and why its event is there."""

    key: str
    reason: str


class Judged(NamedTuple):
    """Of the rows of one key that only one side holds: how many quarantine explains."""

    missing: int = 0
    extra: int = 0
    whole: bool = False  # of a keyed table: the row as it is on both sides


@dataclass
class _Entries:
    told: Excused
    rows: list[bytes] = field(default_factory=list)
    missing: int = 0
    extra: int = 0


class Excuses:
    """The unresolved entries of one table, by the digest of their row's key (see `Keys`)."""

    def __init__(self, *, keyed: bool = True) -> None:
        self._keyed = keyed
        self._entries: dict[bytes, _Entries] = {}
        self.left_out = 0

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def told(self, key: bytes) -> Excused:
        """What is told of a row."""
        return self._entries[key].told

    def add(self, key: bytes, told: Excused, row: bytes) -> None:
        """An entry of a table with a key: its event made the source's row `row`."""
        self._entries.setdefault(key, _Entries(told)).rows.append(row)

    def add_copy(self, row: bytes, told: Excused, *, missing: bool) -> None:
        """An entry of a table without one: silver lacks a copy of `row`, or has it still."""
        entries = self._entries.setdefault(row, _Entries(told))
        if missing:
            entries.missing += 1
        else:
            entries.extra += 1

    def judge(self, key: bytes, ours: Sequence[bytes], theirs: Sequence[bytes]) -> Judged:
        """What quarantine explains of a key whose rows differ.

        Args:
            ours, theirs: digests of the source's rows of that key, and of silver's.
        """
        entries = self._entries[key]
        if not self._keyed:
            lacking = len(ours) - len(theirs)
            return Judged(
                min(max(lacking, 0), entries.missing), min(max(-lacking, 0), entries.extra)
            )
        has = ours[0] if len(ours) == 1 else ABSENT if not ours else None
        return Judged(whole=UNKNOWN in entries.rows or has in entries.rows)


NOTHING_EXCUSED = Excuses()


def excuses_of(
    contract: Contract,
    entries: Iterable[tuple[RawEvent, str]],
    treatment: Callable[[Changes], Changes],
    expect: Callable[[Sequence[str | None]], tuple[str | None, ...]],
) -> Excuses:
    """Read a table's unresolved entries: (event, why it is in quarantine).

    Args:
        treatment: what masks make of values on their way to silver.
        expect: the same for a row of the source, as canonical texts.
    """
    found = Excuses(keyed=bool(contract.key))
    reader = _Reader(contract, treatment, expect, found)
    for number, (event, reason) in enumerate(entries):
        if number >= ENTRIES_MAX:
            found.left_out += 1
        else:
            reader.take(event, reason)
    return found


class _Reader:
    def __init__(
        self,
        contract: Contract,
        treatment: Callable[[Changes], Changes],
        expect: Callable[[Sequence[str | None]], tuple[str | None, ...]],
        found: Excuses,
    ) -> None:
        self._contract = contract
        self._treatment = treatment
        self._expect = expect
        self._found = found
        self._columns = [column.name for column in contract.columns]
        self._key = [self._columns.index(name) for name in contract.key]
        self._keys = Keys(self._key)

    def take(self, event: RawEvent, reason: str) -> None:
        decoded = decode([event], self._contract, HighWater())
        changes = self._treatment(decoded.changes)
        if not self._key:
            for change in changes.changes:
                self._copies(change, changes, reason)
            return
        if changes.changes:
            change = changes.changes[-1]
            texts = self._texts(change.after, changes)
            row = digest(texts)
            if change.op == "d":
                row = ABSENT
            elif change.after in changes.gaps:
                row = UNKNOWN
            self._found.add(self._keys.digest(texts), self._told(texts, reason), row)
            return
        known = self._by_raw_key(describe(event, self._contract)[0])
        if known is not None:
            self._found.add(self._keys.digest(known), self._told(known, reason), UNKNOWN)

    def _copies(self, change: Change, changes: Changes, reason: str) -> None:
        for image, missing in ((change.after, True), (change.before, False)):
            if image >= 0:
                texts = self._texts(image, changes)
                self._found.add_copy(
                    self._keys.digest(texts), self._told(texts, reason), missing=missing
                )

    def _texts(self, image: int, changes: Changes) -> Row:
        values: Mapping[str, object] = changes.images.slice(image, 1).to_pylist()[0]
        return canonical_row(self._contract, [values[name] for name in self._columns])

    def _by_raw_key(self, key: RawKey) -> Row | None:
        """A row with nothing but its key, of an event whose other values cannot be read."""
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) != len(self._key) or None in parts:
            return None
        texts: list[str | None] = [None] * len(self._columns)
        for number, part in zip(self._key, parts, strict=True):
            values, bad = convert(self._contract.columns[number], [part])
            if bad:
                return None
            texts[number] = silver_texts(self._contract)[number](values[0].as_py())
        return self._expect(texts)

    def _told(self, texts: Row, reason: str) -> Excused:
        shown = self._key or range(len(texts))
        return Excused(", ".join(f"{self._columns[i]}={texts[i]}" for i in shown), reason)
