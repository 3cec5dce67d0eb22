"""A problem, as `status`, the page and the metrics show it."""

from __future__ import annotations

from typing import NamedTuple

CAUSE_CHARS_MAX = 400


class Problem(NamedTuple):
    """A part that does not do its work.

    Args:
        part: its kind and name: `connector source`, `table public.orders`.
        state: in a word or two: failed, retrying, stopped, not captured.
        cause: what was observed, in one line.
        hint: what to do next; may be empty.
    """

    part: str
    state: str
    cause: str
    hint: str = ""


def one_line(text: str) -> str:
    """Return a cause on one line, cut if it is long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= CAUSE_CHARS_MAX else f"{flat[: CAUSE_CHARS_MAX - 1]}…"
