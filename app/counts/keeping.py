"""Keeps the progress of the counts, as one object in the lake."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.counts.count_reader import Progress
from app.counts.tally import Miscount

FOLDER = "counts"


@dataclass
class State:
    """The state from which a new process continues; `short` and `surplus` are totals so far."""

    progress: Progress = field(default_factory=Progress)
    short: int = 0
    surplus: int = 0

    def note(self, wrong: Iterable[Miscount]) -> None:
        """Add wrong counts."""
        for one in wrong:
            self.short += one.kind == "short"
            self.surplus += one.kind == "surplus"


class Keeper:
    """Reads and writes the object.

    Args:
        files: a pyarrow file system rooted at the lake.
        name: the object's name; each bronze bucket and topic prefix has its own.
    """

    def __init__(self, files: Any, name: str) -> None:
        self._files = files
        self._path = f"{FOLDER}/{name}.json"

    def load(self) -> State:
        """Read the state saved last, or an empty state if there is none.

        Raises: OSError; ValueError, KeyError, TypeError if the object holds something else.
        """
        try:
            with self._files.open_input_stream(self._path) as stream:
                document = orjson.loads(stream.readall())
        except FileNotFoundError:
            return State()
        progress = Progress.from_json(document["progress"])
        return State(progress, document["short"], document["surplus"])

    def save(self, state: State) -> None:
        """Replace the object. Raises: OSError."""
        document = {
            "progress": state.progress.to_json(),
            "short": state.short,
            "surplus": state.surplus,
        }
        with self._files.open_output_stream(self._path) as stream:
            stream.write(orjson.dumps(document))
