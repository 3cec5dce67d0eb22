"""Texts that Postgres prints: the session settings for reading them, and array literals."""

from __future__ import annotations

import re

# Texts must not depend on the settings of a role or a database.
TEXT_SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
_NEEDS_QUOTES = re.compile(r'[{},"\\ \t\n\r\v\f]')


def array_items(literal: str) -> list[str | None]:
    """Return the items of an array literal such as `{1,NULL,"a,b"}`, as text.

    Raises: ValueError for text that is not an array literal, and for arrays that a list cannot
    hold:
        of several dimensions, or with bounds that do not start at 1.
    """
    if not (literal.startswith("{") and literal.endswith("}")):
        if literal.startswith("["):
            raise ValueError("an array whose bounds do not start at 1")
        raise ValueError("not an array literal")
    inside = literal[1:-1]
    if '"' not in inside and "{" not in inside:
        if not inside:
            return []
        return [None if item == "NULL" else item for item in inside.split(",")]
    items: list[str | None] = []
    position = 1
    while position < len(literal) - 1:
        item, position = _array_item(literal, position)
        items.append(item)
        position += 1  # the comma
    return items


def _array_item(text: str, position: int) -> tuple[str | None, int]:
    if text[position] == "{":
        raise ValueError("an array of more than one dimension")
    if text[position] != '"':
        stop = text.find(",", position)
        stop = len(text) - 1 if stop < 0 else stop
        word = text[position:stop]
        return (None if word == "NULL" else word), stop
    letters = []
    position += 1
    while text[position : position + 1] != '"':
        if text[position : position + 1] == "\\":
            position += 1
        if position >= len(text):
            raise ValueError("an array literal with an open quote")
        letters.append(text[position])
        position += 1
    return "".join(letters), position + 1


def array_literal(items: list[str | None]) -> str:
    """Return the literal that Postgres prints for these items; the inverse of `array_items`."""
    return "{" + ",".join(_quoted_item(item) for item in items) + "}"


def _quoted_item(item: str | None) -> str:
    if item is None:
        return "NULL"
    if item == "" or item.upper() == "NULL" or _NEEDS_QUOTES.search(item):
        return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return item
