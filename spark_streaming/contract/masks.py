"""Masks a column's values before they reach silver.

| mask | text, uuid, enum | other types |
|---|---|---|
| `hash` | HMAC-SHA256 of the UTF-8 text as 64 hex digits; equal values stay equal in all tables |
refused | | `partial` | an e-mail address keeps its first character and its domain; a text of 8
characters or more keeps the last 4; others keep nothing | refused | | `redact` | `***` | NULL |

NULL stays NULL. The key of `hash` is a secret of the stack: without it nobody can test guessed
values.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.contract.contract import Contract

HIDDEN = "***"
_PARTIAL_CHARS_MIN = 8
_PARTIAL_CHARS_KEPT = 4

Text = Callable[[str], str]


def hashed(secret: bytes) -> Text:
    """Return the function of the `hash` mask with a secret."""
    return lambda value: hmac.digest(secret, value.encode("utf-8", "surrogatepass"), "sha256").hex()


def partial(value: str) -> str:
    """Return the `partial` mask of a text."""
    local, at, domain = value.rpartition("@")
    if at and local:
        return f"{local[0]}{HIDDEN}@{domain}"
    if len(value) < _PARTIAL_CHARS_MIN:
        return HIDDEN
    return HIDDEN + value[-_PARTIAL_CHARS_KEPT:]


def masked_column(values: pa.ChunkedArray, mask: str, secret: bytes) -> pa.ChunkedArray:
    """Mask a column; each distinct value is computed once."""
    kind = values.type
    if mask == "redact":
        if not pa.types.is_string(kind):
            return pa.chunked_array([pa.nulls(len(values), kind)], kind)
        return pc.if_else(pc.is_null(values), pa.scalar(None, kind), pa.scalar(HIDDEN, kind))
    change = hashed(secret) if mask == "hash" else partial
    distinct = pc.unique(values)
    changed = pa.array([None if v is None else change(v) for v in distinct.to_pylist()], kind)
    # NULL is among the distinct values, so it stays NULL.
    return pc.take(pa.chunked_array([changed], kind), pc.index_in(values, value_set=distinct))


def treated(
    rows: pa.Table, empty_to_null: Sequence[str], masks: Mapping[str, str], secret: bytes
) -> tuple[pa.Table, pa.Table]:
    """Turn empty texts into NULL where declared, then mask: (rows before masks, rows after).

    Args:
        rows: rows with a contract's columns.
        empty_to_null: text columns whose '' becomes NULL.
        masks: column → hash | redact | partial.
    """
    plain = rows
    for name in empty_to_null:
        column = plain[name]
        nothing = pa.scalar(None, column.type)
        emptied = pc.if_else(pc.equal(column, pa.scalar("", column.type)), nothing, column)
        plain = plain.set_column(plain.column_names.index(name), plain.schema.field(name), emptied)
    masked = plain
    for name, mask in masks.items():
        column = masked_column(plain[name], mask, secret)
        masked = masked.set_column(plain.column_names.index(name), plain.schema.field(name), column)
    return plain, masked


def expected_in_silver(
    contract: Contract,
    empty_to_null: Sequence[str],
    masks: Mapping[str, str],
    secret: bytes,
) -> Callable[[Sequence[str | None]], tuple[str | None, ...]]:
    """Return a function that applies masks and empty texts to a source row, for a comparison.

    The function takes a source row's canonical texts (see `canonical`), in the contract's column
        order, and returns the canonical texts that silver's row must have.
    """
    empty = set(empty_to_null)
    steps = [
        _expected(c.is_text, c.name in empty, masks.get(c.name), secret) for c in contract.columns
    ]
    active = [(number, step) for number, step in enumerate(steps) if step is not None]

    def expect(row: Sequence[str | None]) -> tuple[str | None, ...]:
        values = list(row)
        for number, step in active:
            value = values[number]
            values[number] = None if value is None else step(value)
        return tuple(values)

    return expect


def _expected(
    is_text: bool, empty_to_null: bool, mask: str | None, secret: bytes
) -> Callable[[str], str | None] | None:
    if mask is None and not empty_to_null:
        return None
    if mask == "redact":
        change: Callable[[str], str | None] = lambda _: HIDDEN if is_text else None  # noqa: E731
    elif mask is None:
        change = str
    else:
        change = hashed(secret) if mask == "hash" else partial
    return lambda value: None if empty_to_null and value == "" else change(value)
