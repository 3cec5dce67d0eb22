"""Pieces of Markdown that every generated page uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

COMMAND = "make reference"


def page(title: str, introduction: str, *parts: str) -> str:
    """A whole page; `parts` follow the introduction, an empty line before each."""
    note = f"<!-- Written by `{COMMAND}` from the code: change the code, not this file. -->"
    return "\n\n".join([f"# {title}", note, introduction.strip(), *parts]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown, in which line ends and bars are escaped."""
    lines = [_line(heads), "|" + "---|" * len(heads), *(_line(row) for row in rows)]
    return "\n".join(lines)


def code(text: object) -> str:
    """A word as code; "" for None or an empty text."""
    return f"`{text}`" if text not in (None, "") else ""


def _line(cells: Sequence[str]) -> str:
    plain = (" ".join(cell.split()).replace("\\|", "|").replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(plain)} |".replace("|  |", "| |")
