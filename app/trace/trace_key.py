"""The key of a traced row: as a user writes it, and as events carry it.

Bronze is searched, not parsed: only lines with the bytes that the key must have in an event
(`RowKey.needles`) are parsed and compared by value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import orjson
from kafka.partitioner.default import murmur2

from app.errors import HeadwaterError
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column
from spark_streaming.events.arrow_values import convert

_SHORT_ESCAPES = "\b\f\n\r\t"


@dataclass(frozen=True)
class RowKey:
    """A row's key. Keys of one table are equal if their values are.

    Args:
        columns: the key's columns, in the key's order.
        values: their values, as silver holds them.
        raws: their values, as events carry them.
        names: the columns' names in message keys; one tuple for each contract version with other
            names, the newest first.
            in_rows: whether the key is in the events' `before` and `after` instead of in message
                keys.
    """

    columns: tuple[Column, ...] = field(compare=False)
    values: tuple[Any, ...]
    raws: tuple[Any, ...] = field(compare=False)
    names: tuple[tuple[str, ...], ...] = field(compare=False)
    in_rows: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        pairs = zip(self.columns, self.values, strict=True)
        return ", ".join(f"{column.name}={value}" for column, value in pairs)

    def needles(self) -> list[bytes]:
        """Return byte strings: each line of this key's events has one of them, few others do."""
        return sorted({needle for names in self.names for needle in self._needles(names)})

    def _needles(self, names: Sequence[str]) -> list[bytes]:
        parts = [
            _part(name, column, raw)
            for name, column, raw in zip(names, self.columns, self.raws, strict=True)
        ]
        if len(parts) == 1 and not self.in_rows:
            part, whole = parts[0]
            return [b"{" + part + b"}" if whole else b"{" + part]
        # As a rule, the longest byte string is in the fewest rows.
        part, whole = max(parts, key=lambda one: (one[1], len(one[0])))
        return [part + b",", part + b"}"] if whole else [part]

    def owns(self, message_key: bytes | None, value: bytes | None) -> bool:
        """Check whether an event makes, changes or removes this row."""
        if not self.in_rows:
            return self.matches(message_key)
        return any(self.is_of(image) for image in images_of(value))

    def matches(self, message_key: bytes | None) -> bool:
        """Check whether a message key is this row's."""
        if not message_key:
            return False
        try:
            document = orjson.loads(message_key)
        except orjson.JSONDecodeError:
            return False
        return isinstance(document, dict) and any(
            document.keys() == set(names) and self._is_in(document, names) for names in self.names
        )

    def is_of(self, image: Mapping[str, Any] | None) -> bool:
        """Check whether an event's row (`before` or `after`) is this row."""
        return image is not None and any(
            image.keys() >= set(names) and self._is_in(image, names) for names in self.names
        )

    def _is_in(self, document: Mapping[str, Any], names: Sequence[str]) -> bool:
        parts = zip(self.columns, names, self.raws, self.values, strict=True)
        return all(
            document[name] == raw or _value(column, document[name]) == value
            for column, name, raw, value in parts
        )

    def partitions(self, count: int) -> list[int]:
        """Return all partition numbers of a topic, the likeliest one for the key first.

        The producer hashes the message key's bytes (murmur2), which hold the key's columns in the
        order of the key or of the table.
        """
        names = self.names[0]
        numbers = [column.attnum or 0 for column in self.columns]
        orders = [range(len(names)), sorted(range(len(names)), key=lambda i: numbers[i])]
        likely: list[int] = []
        for order in orders if not self.in_rows else ():
            document = {names[i]: self.raws[i] for i in order}
            text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
            likely.append((murmur2(text) & 0x7FFFFFFF) % count)
        return list(dict.fromkeys([*likely, *range(count)]))


def parse_key(contract: Contract, text: str) -> RowKey:
    """Parse a user's key, written as `7`, as `a=1,b=2`, as `1,2` in the key's order, or as JSON.

    Raises: HeadwaterError if the table has no key, or the text is not a key of it.
    """
    table = f"{contract.schema}.{contract.table}"
    if contract.is_keyless:
        raise HeadwaterError(
            f"table {table} has no key, so none of its rows can be named",
            detail="the table may hold equal rows, and events do not distinguish them",
            hint=f"ALTER TABLE {table} ADD PRIMARY KEY (…), or look at its topic in bronze",
        )
    columns = tuple(contract.by_name[name] for name in contract.key)
    texts = _texts(columns, text, table)
    raws, values = [], []
    for column, given in zip(columns, texts, strict=True):
        raw, value = _typed(column, given, table)
        raws.append(raw)
        values.append(value)
    in_rows = contract.replica_identity == "index"
    return RowKey(columns, tuple(values), tuple(raws), _names(contract, columns), in_rows)


def key_in(like: RowKey, image: Mapping[str, Any] | None) -> RowKey | None:
    """Return the key that an event's row or message key has, of the same columns as `like`; None without one."""
    if image is None:
        return None
    for names in like.names:
        if not image.keys() >= set(names):
            continue
        raws = tuple(image[name] for name in names)
        values = tuple(_value(c, raw) for c, raw in zip(like.columns, raws, strict=True))
        if None not in values:
            return like if values == like.values else replace(like, values=values, raws=raws)
    return None


def images_of(value: bytes | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return an event's `before` and `after`; None for a missing or unreadable one."""
    try:
        document = orjson.loads(value) if value else None
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        return None, None
    before, after = document.get("before"), document.get("after")
    return (
        before if isinstance(before, dict) else None,
        after if isinstance(after, dict) else None,
    )


def _texts(columns: Sequence[Column], text: str, table: str) -> list[str]:
    """Return the text of each key column, in the key's order."""
    named = _from_json(text)
    if named is None and len(columns) == 1:
        name, equals, rest = text.partition("=")
        is_named = equals and name.strip() in (columns[0].name, columns[0].source_name)
        return [rest if is_named else text]
    if named is None:
        parts = text.split(",")
        pairs = [part.partition("=") for part in parts]
        known = {name for column in columns for name in (column.name, column.source_name)}
        if not all(equals and name.strip() in known for name, equals, _ in pairs):
            if len(parts) == len(columns):
                return [part.strip() for part in parts]
            raise _no_key(columns, text, table)
        named = {name.strip(): value.strip() for name, _, value in pairs}
    texts = [named.get(column.name, named.get(column.source_name)) for column in columns]
    if len(named) != len(columns) or any(value is None for value in texts):
        raise _no_key(columns, text, table)
    return [value for value in texts if value is not None]


def _from_json(text: str) -> dict[str, str] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        given = json.loads(text, parse_float=Decimal)
    except ValueError:
        return None
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in given.items()
    }


def _no_key(columns: Sequence[Column], text: str, table: str) -> HeadwaterError:
    names = [column.name for column in columns]
    form = ",".join(f"{name}=…" for name in names)
    return HeadwaterError(
        f"`{text}` is not a key of {table}",
        detail=f"its key is ({', '.join(names)})",
        hint=f"give {form}, or the values in that order, or JSON if they hold commas",
    )


def _typed(column: Column, text: str, table: str) -> tuple[Any, Any]:
    """Return a key column's value as events carry it, and as silver holds it."""
    try:
        raw = column.event_value(text)
    except ValueError:
        raw = None
    array, bad = convert(column, [raw])
    if raw is None or bad:
        raise HeadwaterError(
            f"`{text}` is not a value of {table}.{column.name}",
            detail=f"the column is {column.pg_type}",
        )
    value = array[0].as_py()
    return (format(value, "f") if isinstance(value, Decimal) else raw), value


def _value(column: Column, raw: Any) -> Any:
    array, bad = convert(column, [raw])
    return None if bad else array[0].as_py()


def _names(contract: Contract, columns: Sequence[Column]) -> tuple[tuple[str, ...], ...]:
    """Return the names of the key's columns in events, for each contract version with this key."""
    all_names = [tuple(column.source_name for column in columns)]
    for version in reversed(contract.previous_versions):
        numbered = {c.attnum: c.source_name for c in version.columns if c.attnum is not None}
        names = tuple(
            numbered.get(c.attnum, "") if c.attnum is not None else c.source_name for c in columns
        )
        if "" not in names and len(version.key) == len(columns):
            all_names.append(names)
    return tuple(dict.fromkeys(all_names))


def _part(name: str, column: Column, raw: Any) -> tuple[bytes, bool]:
    """Return `\\"name\\":value` as a line of bronze has it, and whether it includes the value."""
    whole = column.value_kind.one_form and not _has_control(raw)
    inner = json.dumps(name, ensure_ascii=False) + ":"
    if whole:
        inner += json.dumps(raw, ensure_ascii=False)
    return inner.replace("\\", "\\\\").replace('"', '\\"').encode(), whole


def _has_control(raw: Any) -> bool:
    # These are escaped in more than one way.
    return isinstance(raw, str) and any(c < " " and c not in _SHORT_ESCAPES for c in raw)
