"""Questions that need the lake's clients: asked in a process of their own, one at a time."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from app.live.source import Refused

TIMEOUT_S = 40.0


class Answer(NamedTuple):
    """What a child printed: a JSON document, and what it told people on stderr."""

    document: Any
    notes: str


class Child:
    """Runs commands that print one JSON document.

    An answer costs a second of CPU, most of it imports, and the page keeps none of its memory.
    """

    def __init__(self, command: Sequence[str], timeout_s: float = TIMEOUT_S) -> None:
        self._command = list(command)
        self._timeout_s = timeout_s
        self._turn = threading.Lock()

    def ask(self, *arguments: str, given: Any = None) -> Answer:
        """The answer of the command with these arguments; `given` is its stdin, as JSON.

        A command that ends with another code than 0 and prints its document all the same has
        answered. Raises: Refused with what it said, or where it is busy.
        """
        if not self._turn.acquire(timeout=self._timeout_s):
            raise Refused(503, message="others are asking; try again")
        try:
            ended = subprocess.run(
                [*self._command, *arguments],
                input=json.dumps(given),
                capture_output=True,
                text=True,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(
                503, message=f"there was no answer within {self._timeout_s:.0f} s"
            ) from error
        finally:
            self._turn.release()
        said = ended.stderr.strip()
        if not ended.stdout.strip():
            message, _, rest = (said or f"exit code {ended.returncode}").partition("\n")
            raise Refused(502, message=message[:500], detail=rest.strip()[:2_000] or None)
        return Answer(json.loads(ended.stdout), said)
