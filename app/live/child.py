"""Questions that need the lake's clients: asked in a process of their own, one at a time."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from app.live.source import Refused

TIMEOUT_S = 30.0


class Child:
    """Runs a command that reads one JSON document and prints one.

    The answer costs a second of CPU, most of it imports, and the page keeps none of its memory.
    """

    def __init__(self, command: Sequence[str], timeout_s: float = TIMEOUT_S) -> None:
        self._command = list(command)
        self._timeout_s = timeout_s
        self._turn = threading.Lock()

    def ask(self, given: Any) -> Any:
        """The command's answer. Raises: Refused with what it said on stderr, or where it is busy."""
        if not self._turn.acquire(timeout=self._timeout_s):
            raise Refused(503, message="others are asking the same; try again")
        try:
            ended = subprocess.run(
                self._command,
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
        if ended.returncode != 0:
            said = ended.stderr.strip() or f"exit code {ended.returncode}"
            message, _, rest = said.partition("\n")
            raise Refused(502, message=message[:500], detail=rest.strip()[:2_000] or None)
        return json.loads(ended.stdout)
