"""Quotes values for rendered files, by the rules of each file's format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from xml.sax.saxutils import escape

from app.services.templates import Lookup


def quoting(name: str, lookup: Lookup) -> Lookup:
    """Return `lookup` with its values quoted for the format of file `name`."""
    quote = _RULES.get(PurePath(name).name) or _RULES.get(PurePath(name).suffix)
    if quote is None:
        return lookup
    return lambda variable: quote(lookup(variable))


def java_property(value: str) -> str:
    """Write all but ASCII as `\\uXXXX`, for Java reads property files as ISO 8859-1 or as UTF-8."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    pairs = (int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
    return "".join(chr(unit) if unit < 0x7F else f"\\u{unit:04x}" for unit in pairs)


def postgres_text(value: str) -> str:
    """Quote a text for use between the single quotes of postgresql.conf."""
    return value.replace("'", "''")


_RULES: dict[str, Callable[[str], str]] = {
    ".properties": java_property,
    "postgresql.conf": postgres_text,
    ".xml": escape,
}
