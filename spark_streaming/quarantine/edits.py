"""Gives an event in quarantine new values for its replay; its position stays the same."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent

# Column → the value as Postgres prints it, None for NULL.
Values = Mapping[str, str | None]


class EditError(ValueError):
    """An event cannot have these values; the text says why."""


def edited(event: RawEvent, values: Values, contract: Contract) -> RawEvent:
    """The event with other values in its row.

    Key, LSN and coordinates stay, and so does the event's order among the events of its row. The
    key cannot be edited, because the event would then belong to another row.

    Raises: EditError if the event leaves no row or cannot be read, has no such column, or if a
    value does not fit its type.
    """
    try:
        document = orjson.loads(event.value or b"")
        after = document["after"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise EditError("the event cannot be read, so its values cannot be edited") from error
    if not isinstance(after, dict):
        raise EditError("the event leaves no row, so there are no values to edit")
    names = {column.source_name: column for column in contract.columns}
    names |= contract.by_name
    found = dict(after)
    for name, text in values.items():
        column = names.get(name)
        if column is None or column.source_name not in after:
            raise EditError(f"the event has no column `{name}`")
        if column.name in contract.key:
            raise EditError(f"`{name}` is part of the key: another key is another row")
        found[column.source_name] = None if text is None else _raw(column, text)
    return event._replace(value=orjson.dumps({**document, "after": found}))


def _raw(column: Column, text: str) -> object:
    if column.kind == "bytes" and not text.startswith("\\x"):
        return text  # base64, as in the event
    try:
        return column.event_value(text)
    except ValueError as error:
        where = f"column {column.source_name} ({column.pg_type})"
        raise EditError(f"`{text[:60]}` is not a value of {where}") from error
