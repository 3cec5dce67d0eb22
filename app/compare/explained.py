"""Says which rows differ because their newest event is in quarantine.

An unresolved entry of quarantine explains its row's difference only if the source agrees with the entry: if its event
can be decoded, the source's row must equal the event's row. An older entry
therefore does not explain a row that lost a later event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import NamedTuple

import orjson

from app.compare.digest import Keys, Row, digest
from spark_streaming.contract.canonical import canonical_row, silver_texts
from spark_streaming.contract.contract import Contract
from spark_streaming.events.arrow_values import convert
from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.events.event import Change, Changes, RawEvent, RawKey
from spark_streaming.events.layout import is_placeholder
from spark_streaming.quarantine.quarantined_rows import describe

# Each needs some 300 bytes. Rows of further entries count as differing.
ENTRIES_MAX = 100_000
# Used instead of a row's digest: the source has no such row; the source's row is not known.
ABSENT = b""
UNKNOWN = b"?"


@dataclass(frozen=True)
class Explanation:
    """Why one row differs: the row's key as text, and the reason why its event is in quarantine."""

    key: str
    reason: str


class Explained(NamedTuple):
    """How many rows of one key quarantine explains, among those that only one side has."""

    missing: int = 0
    extra: int = 0
    whole: bool = False  # keyed tables: the whole difference of the row is explained


@dataclass
class _Entries:
    explanation: Explanation
    rows: list[bytes] = field(default_factory=list)
    missing: int = 0
    extra: int = 0


class Explanations:
    """The unresolved entries of one table, by the digest of their row's key (see `Keys`)."""

    def __init__(self, *, keyed: bool = True) -> None:
        self._keyed = keyed
        self._entries: dict[bytes, _Entries] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def explanation(self, key: bytes) -> Explanation:
        """Return the explanation of a row; `key` must be contained."""
        return self._entries[key].explanation

    def add(self, key: bytes, explanation: Explanation, row: bytes) -> None:
        """Add an entry of a keyed table, whose event made the source's row `row`."""
        self._entries.setdefault(key, _Entries(explanation)).rows.append(row)

    def add_copy(self, row: bytes, explanation: Explanation, *, missing: bool) -> None:
        """Add an entry of a keyless table: silver lacks a copy of `row`, or still has one."""
        entries = self._entries.setdefault(row, _Entries(explanation))
        if missing:
            entries.missing += 1
        else:
            entries.extra += 1

    def explain(self, key: bytes, source: Sequence[bytes], silver: Sequence[bytes]) -> Explained:
        """Decide how much of a key's difference quarantine explains.

        Args:
            source, silver: digests of each side's rows of that key.
        """
        entries = self._entries[key]
        if not self._keyed:
            lacking = len(source) - len(silver)
            return Explained(
                min(max(lacking, 0), entries.missing), min(max(-lacking, 0), entries.extra)
            )
        row = source[0] if len(source) == 1 else ABSENT if not source else None
        return Explained(whole=UNKNOWN in entries.rows or row in entries.rows)


NO_EXPLANATIONS = Explanations()


def read_explanations(
    contract: Contract,
    entries: Iterable[tuple[RawEvent, str]],
    treatment: Callable[[Changes], Changes],
    expect: Callable[[Sequence[str | None]], tuple[str | None, ...]],
) -> Explanations:
    """Read the explanations that a table's unresolved entries give.

    Args:
        entries: (event, why it is in quarantine).
        treatment: applies masks to decoded changes, as the streaming job does.
        expect: applies the same masks to a row of the source (canonical texts).
    """
    explanations = Explanations(keyed=bool(contract.key))
    reader = _Reader(contract, treatment, expect, explanations)
    for event, reason in islice(entries, ENTRIES_MAX):
        reader.add(event, reason)
    return explanations


class _Reader:
    def __init__(
        self,
        contract: Contract,
        treatment: Callable[[Changes], Changes],
        expect: Callable[[Sequence[str | None]], tuple[str | None, ...]],
        explanations: Explanations,
    ) -> None:
        self._contract = contract
        self._treatment = treatment
        self._expect = expect
        self._explanations = explanations
        self._columns = [column.name for column in contract.columns]
        self._key = [self._columns.index(name) for name in contract.key]
        self._keys = Keys(self._key)

    def add(self, event: RawEvent, reason: str) -> None:
        decoded = decode([event], self._contract, HighWater())
        changes = self._treatment(decoded.changes)
        if not self._key:
            for change in changes.changes:
                self._add_copies(change, changes, reason)
            if not changes.changes:
                self._add_raw_copies(event, reason)
            return
        if changes.changes:
            change = changes.changes[-1]
            texts = self._texts(change.after, changes)
            row = digest(texts)
            if change.op == "d":
                row = ABSENT
            elif change.after in changes.gaps:
                row = UNKNOWN
            self._explanations.add(self._keys.digest(texts), self._explanation(texts, reason), row)
            return
        for row_key in self._by_raw_key(describe(event, self._contract)[0]):
            explanation = self._explanation(row_key, reason)
            self._explanations.add(self._keys.digest(row_key), explanation, UNKNOWN)

    def _add_copies(self, change: Change, changes: Changes, reason: str) -> None:
        for image, missing in ((change.after, True), (change.before, False)):
            if image >= 0:
                texts = self._texts(image, changes)
                self._add_copy(texts, reason, missing=missing)

    def _texts(self, image: int, changes: Changes) -> Row:
        values: Mapping[str, object] = changes.images.slice(image, 1).to_pylist()[0]
        return canonical_row(self._contract, [values[name] for name in self._columns])

    def _by_raw_key(self, key: RawKey) -> list[Row]:
        """Return rows with only their key set, for an event whose other values cannot be decoded.

        There are several rows if the event does not show which of two values a key column has.
        """
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) != len(self._key) or None in parts:
            return []
        texts: list[list[str | None]] = [[None]] * len(self._columns)
        for number, part in zip(self._key, parts, strict=True):
            texts[number] = list(self._canonical_texts(number, part))
        return [self._expect(row) for row in product(*texts)]

    def _add_raw_copies(self, event: RawEvent, reason: str) -> None:
        """Add the copies of a keyless table's event with a value that silver cannot hold."""
        try:
            document = orjson.loads(event.value or b"")
            images = ((document.get("after"), True), (document.get("before"), False))
        except (orjson.JSONDecodeError, AttributeError):
            return
        names = [column.source_name for column in self._contract.columns]
        for image, missing in images:
            if not isinstance(image, dict) or not image.keys() >= set(names):
                continue
            values = [image[name] for name in names]
            if any(is_placeholder(value) for value in values):
                continue
            texts = [
                [None] if value is None else list(self._canonical_texts(number, value))
                for number, value in enumerate(values)
            ]
            for row in product(*texts):
                self._add_copy(self._expect(row), reason, missing=missing)

    def _add_copy(self, row: Row, reason: str, *, missing: bool) -> None:
        explanation = self._explanation(row, reason)
        self._explanations.add_copy(self._keys.digest(row), explanation, missing=missing)

    def _canonical_texts(self, number: int, value: object) -> Iterator[str]:
        """Yield an event's value as the source prints it, even if silver's column cannot hold it.

        Yields two texts if a snapshot allows two dates, and none for an unknown form.
        """
        column = self._contract.columns[number]
        values, bad = convert(column, [value])
        if not bad:
            yield silver_texts(self._contract)[number](values[0].as_py())
            return
        for one in str(value).split(" or ") if isinstance(value, str) else [value]:
            values, bad = convert(column.as_text, [one])
            if not bad:
                yield values[0].as_py()

    def _explanation(self, texts: Row, reason: str) -> Explanation:
        shown = self._key or range(len(texts))
        return Explanation(", ".join(f"{self._columns[i]}={texts[i]}" for i in shown), reason)
