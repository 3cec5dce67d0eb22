"""Stores the finished parts of an interrupted verification in the home."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.environment.settings import write_private
from spark_streaming.contract.lsn import Lsn

# An older result does not show enough about the present state.
RESUMED_AGE_S_MAX = 24 * 3_600.0
FOLDER = "verify"


class Part(BaseModel):
    """A range of the first key column that is equal; without bounds it is the whole table."""

    low: str | None = None
    high: str | None = None
    rows: int
    lsn: Lsn


class TableState(BaseModel):
    """The finished parts of one table.

    `oid` (in the source) and `table_id` (in silver) change when a table is made again.
    """

    oid: int
    table_id: str
    ranges: list[tuple[str | None, str | None]]
    equal: list[Part] = Field(default_factory=list)


class RunState(BaseModel):
    """One run: the requested tables and the finished parts of each."""

    model_config = ConfigDict(extra="forbid")

    saved_at: float = 0.0
    tables: list[str]
    done: dict[str, TableState] = Field(default_factory=dict)


class StateFile:
    """The file `verify/state.json` of a home; a further source's is in a folder of its name.

    It is a context manager that locks the file. While another run has the lock, `save` and
    `forget` do nothing.
    """

    def __init__(
        self, home: Path, clock: Callable[[], float] = time.time, *, source: str = ""
    ) -> None:
        self._folder = home / FOLDER / source
        self._path = self._folder / "state.json"
        self._clock = clock
        self._lock: IO[str] | None = None

    def __enter__(self) -> StateFile:
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            self._lock = lock
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load(self) -> RunState | None:
        """Load the state of an interrupted run; None if there is none, or it is too old."""
        try:
            state = RunState.model_validate_json(self._path.read_text())
        except (FileNotFoundError, ValidationError):
            return None
        return state if self._clock() - state.saved_at <= RESUMED_AGE_S_MAX else None

    def save(self, state: RunState) -> None:
        """Write `state`, unless another run has the lock."""
        if self._lock is not None:
            saved = state.model_copy(update={"saved_at": self._clock()})
            write_private(self._path, saved.model_dump_json())

    def forget(self) -> None:
        """Remove the state: the run has ended."""
        if self._lock is not None:
            with suppress(FileNotFoundError):
                self._path.unlink()
