"""What an interrupted verification had finished, kept in the home."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.settings import write_private

# What was equal longer ago says too little about now.
RESUMED_AGE_S_MAX = 24 * 3_600.0
FOLDER = "verify"


class Part(BaseModel):
    """One range of the first key column that was found equal; both bounds None: the table."""

    low: str | None = None
    high: str | None = None
    rows: int
    lsn: int


class TableState(BaseModel):
    """What is finished of one table; `oid` and `table_id` tell a table that was made again."""

    oid: int
    table_id: str
    ranges: list[tuple[str | None, str | None]]
    equal: list[Part] = Field(default_factory=list)


class RunState(BaseModel):
    """One run: what was asked for, and what is finished."""

    model_config = ConfigDict(extra="forbid")

    saved_at: float = 0.0
    tables: list[str]
    done: dict[str, TableState] = Field(default_factory=dict)


class StateFile:
    """`verify/state.json` of a home; one run at a time keeps its state there.

    Used as a context: within it `save` writes, unless another run holds the file.
    """

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = home / FOLDER
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load(self) -> RunState | None:
        """What the last run left behind; None where it ended, or was too long ago."""
        try:
            state = RunState.model_validate_json(self._path.read_text())
        except (FileNotFoundError, ValidationError):
            return None
        return state if self._clock() - state.saved_at <= RESUMED_AGE_S_MAX else None

    def save(self, state: RunState) -> None:
        """Keep `state`; nothing where another run holds the file."""
        if self._lock is not None:
            kept = state.model_copy(update={"saved_at": self._clock()})
            write_private(self._path, kept.model_dump_json())

    def forget(self) -> None:
        """The run ended: there is nothing to go on with."""
        if self._lock is not None:
            with suppress(FileNotFoundError):
                self._path.unlink()
