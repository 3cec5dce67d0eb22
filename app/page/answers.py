"""Answers to the page: refusals, and values cut to a length that a page can show."""

from __future__ import annotations

from typing import Any

ROWS_MAX = 200
CELL_CHARS_MAX = 2_000


class Refused(Exception):
    """A request that is refused, with its HTTP status; `facts` are the fields of the answer's `error`."""

    def __init__(self, status: int, **facts: Any) -> None:
        super().__init__(facts.get("message"))
        self.status = status
        self.facts = {name: value for name, value in facts.items() if value is not None}


def cell_of(text: str | None) -> tuple[str | None, bool]:
    """Cut a value to CELL_CHARS_MAX characters; also return whether it was cut."""
    if text is None or len(text) <= CELL_CHARS_MAX:
        return text, False
    return text[:CELL_CHARS_MAX] + "…", True
