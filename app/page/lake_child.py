"""Child processes for questions that need the lake's clients, one question at a time."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from app.page.answers import Refused

TIMEOUT_S = 40.0
IDLE_S = 60.0
STOP_S = 5.0


class Answer(NamedTuple):
    """What a child printed: a JSON document on stdout, and notes for people on stderr."""

    document: Any
    notes: str


class Child:
    """Runs commands that print one JSON document.

    An answer costs a second of CPU, most of it for imports; in exchange the page itself needs no
    memory for them.
    """

    def __init__(self, command: Sequence[str], timeout_s: float = TIMEOUT_S) -> None:
        self._command = list(command)
        self._timeout_s = timeout_s
        self._turn = threading.Lock()

    def ask(self, *arguments: str, given: Any = None) -> Answer:
        """Run the command with these arguments and return its answer; `given` is its stdin, as JSON.

        A command that prints its document has answered, whatever its exit code.
        Raises: Refused with the command's own message, or because it is busy.
        """
        with _in_turn(self._turn, self._timeout_s):
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
                raise _late(self._timeout_s) from error
        notes = ended.stderr.strip()
        if not ended.stdout.strip():
            raise _failed(notes or f"exit code {ended.returncode}")
        return Answer(json.loads(ended.stdout), notes)


class Lasting:
    """Runs a command that answers each line of its stdin with one of its stdout, both JSON.

    The process is kept for the next question, because its imports cost two seconds of CPU, usually
    while an edit is on its way, but an answer costs some milliseconds. It ends after `idle_s`
    seconds without a question, or with the page, which closes its stdin.
    """

    def __init__(
        self, command: Sequence[str], timeout_s: float = TIMEOUT_S, idle_s: float = IDLE_S
    ) -> None:
        self._command = list(command)
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._idle: threading.Timer | None = None

    def ask(self, given: Any) -> Any:
        """Send `given` to the command and return the document that it answers.

        Raises: Refused with the text in the answer's `failed`, or if the process ends instead of
        answering, takes too long, or is busy.
        """
        with _in_turn(self._turn, self._timeout_s):
            if self._idle is not None:
                self._idle.cancel()
            kept = self._process is not None
            answer = self._answer(given)
            if answer is None and kept:  # a kept process may have been killed meanwhile
                answer = self._answer(given)
            self._idle = threading.Timer(self._idle_s, self.close)
            self._idle.daemon = True
            self._idle.start()
        if answer is None:
            raise Refused(502, message="the process that compares ended; ./headwater logs app")
        if "failed" in answer:
            raise _failed(str(answer["failed"]))
        return answer

    def close(self) -> None:
        """End the process after its current answer."""
        with self._turn:
            self._end()

    def _answer(self, given: Any) -> dict[str, Any] | None:
        """Ask once; None if the process ended instead. Raises: Refused if it takes too long."""
        if self._process is None:
            # Its stderr goes to the page's log.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        limit = threading.Timer(self._timeout_s, stop)
        limit.start()
        try:
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            limit.cancel()
        if line:
            return dict(json.loads(line))
        self._end()
        if late.is_set():
            raise _late(self._timeout_s)
        return None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def _in_turn(turn: threading.Lock, timeout_s: float) -> Iterator[None]:
    """Wait for one's turn. Raises: Refused if it does not come within `timeout_s` seconds."""
    if not turn.acquire(timeout=timeout_s):
        raise Refused(503, message="other requests are being answered; try again")
    try:
        yield
    finally:
        turn.release()


def _failed(notes: str) -> Refused:
    """Turn a command's error output into a refusal: the first line, and the rest as detail."""
    message, _, rest = notes.partition("\n")
    return Refused(502, message=message[:500], detail=rest.strip()[:2_000] or None)


def _late(timeout_s: float) -> Refused:
    return Refused(503, message=f"there was no answer within {timeout_s:.0f} s")
