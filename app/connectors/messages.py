"""Prints a message that a service repeats only once."""

from __future__ import annotations

import sys


class Messages:
    """Prints messages on stderr: a topic's message once, and again when it changes."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def report(self, topic: str, text: str) -> None:
        """Print a message, unless it was the last of its topic."""
        if self._last.get(topic) != text:
            self._last[topic] = text
            print(text, file=sys.stderr, flush=True)

    def reachable_again(self, topic: str) -> None:
        """Report that a service answers again, if it was reported as silent."""
        if self._last.pop(topic, None) is not None:
            print(f"{topic}: reachable again", file=sys.stderr, flush=True)
