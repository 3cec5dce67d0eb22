"""Finds the lines of the keys in a TOML text, so that a mistake can be reported with its line."""

from __future__ import annotations

import re
from collections.abc import Sequence

Path = tuple[str | int, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"^\s*\[({_DOTTED})\]")
_ARRAY_HEADER = re.compile(rf"^\s*\[\[\s*({_DOTTED})\s*\]\]")
_KEY = re.compile(rf"^\s*({_DOTTED})\s*=")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')


def key_lines(text: str) -> dict[Path, int]:
    """Return the line (from 1) of each table header and key, by path; arrays count from 0.

    Keys inside inline tables and multi-line values have no entry: use the line of the enclosing
    key.
    """
    lines: dict[Path, int] = {(): 1}
    table: Path = ()
    counts: dict[Path, int] = {}
    quote, depth = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if quote or depth > 0:
            quote, depth = _continued(line, quote, depth)
            continue
        if found := _ARRAY_HEADER.match(line):
            name = _parts(found.group(1))
            table = (*name, counts.get(name, 0))
            counts[name] = counts.get(name, 0) + 1
            lines.setdefault(name, number)
            lines[table] = number
        elif found := _HEADER.match(line):
            table = _parts(found.group(1))
            for end in range(1, len(table) + 1):
                lines.setdefault(table[:end], number)
        elif found := _KEY.match(line):
            path = (*table, *_parts(found.group(1)))
            for end in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:end], number)
            quote, depth = _continued(line[found.end() :], "", 0)
    return lines


def line_of(lines: dict[Path, int], path: Sequence[str | int]) -> int:
    """Return the line of a path, or of the nearest key around it."""
    place = tuple(path)
    while place not in lines:
        place = place[:-1]
    return lines[place]


def _continued(line: str, quote: str, depth: int) -> tuple[str, int]:
    """Return the open quote and the bracket depth with which a value continues after this line."""
    rest = line
    while rest:
        if quote:
            _, found, rest = rest.partition(quote)
            if not found:
                return quote, depth
            quote = ""
            continue
        opening = re.search(r'"""|\'\'\'', rest)
        plain = rest[: opening.start()] if opening else rest
        plain = _STRING.sub("", plain).split("#")[0]
        depth += plain.count("[") - plain.count("]")
        if opening is None:
            return "", max(depth, 0)
        quote, rest = opening.group(), rest[opening.end() :]
    return quote, max(depth, 0)


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(
        part[1:-1] if part[0] in "\"'" else part for part in re.findall(_PART, dotted.strip())
    )
