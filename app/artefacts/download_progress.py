"""Shows a download's progress on stderr: bytes, rate and time to go."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LINE_EVERY_S = 5.0


class FetchProgress(Protocol):
    """Shows the progress of downloads; called by several threads. `done` is negative for bytes to fetch again."""

    def start(self, *, files: int, size: int, done: int) -> None: ...

    def advance(self, done: int) -> None: ...

    def finish(self) -> None: ...

    def building(self, name: str) -> None:
        """Show that a group is being unpacked or compiled."""


class Quiet:
    """Shows nothing."""

    def start(self, *, files: int, size: int, done: int) -> None:
        pass

    def advance(self, done: int) -> None:
        pass

    def finish(self) -> None:
        pass

    def building(self, name: str) -> None:
        pass


class Bar:
    """Shows a bar, for terminals."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def start(self, *, files: int, size: int, done: int) -> None:
        self._progress.start()
        # Bytes of a previous attempt must not count for the rate, so they are not part of the task.
        self._task = self._progress.add_task(f"fetching {files} files", total=size - done)

    def advance(self, done: int) -> None:
        self._progress.advance(self._task, done)

    def finish(self) -> None:
        self._progress.stop()

    def building(self, name: str) -> None:
        self._progress.console.print(f"preparing {name}", markup=False)


class Lines:
    """Prints a line now and then, for logs and pipes."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._guard = threading.Lock()

    def start(self, *, files: int, size: int, done: int) -> None:
        self._size, self._before, self._done = size, done, done
        self._started = self._said = self._clock()
        kept = f", {_megabytes(done)} of them kept from before" if done else ""
        self._say(f"fetching {files} files, {_megabytes(size)}{kept}")

    def advance(self, done: int) -> None:
        with self._guard:
            self._done += done
            now = self._clock()
            if now - self._said < LINE_EVERY_S:
                return
            self._said = now
            rate = (self._done - self._before) / (now - self._started)
            left = f"{(self._size - self._done) / rate:.0f} s to go" if rate > 0 else "waiting"
            share = 100 * self._done / self._size
            self._say(
                f"  {_megabytes(self._done)} of {_megabytes(self._size)} ({share:.0f} %), "
                f"{_megabytes(rate)}/s, {left}"
            )

    def finish(self) -> None:
        took = self._clock() - self._started
        self._say(f"fetched {_megabytes(self._done - self._before)} in {took:.0f} s")

    def building(self, name: str) -> None:
        self._say(f"preparing {name}")

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def progress_on_stderr() -> FetchProgress:
    """Return a bar where stderr is a terminal, else lines."""
    return Bar() if sys.stderr.isatty() else Lines()


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"
