"""Counts new objects of bronze, in slices: some END records, then the events that belong to them.

A transaction is judged only after all of its events were read. The caller's `barrier` has the complete part: END
records up to an offset of the transaction topic, and the events of each table that
were in Kafka when those ENDs were. If there are many, a slice has ENDS_MAX ENDs, and from each
partition the objects that begin before the last of these commits.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from app.counts.tally import Miscount, Tally
from app.counts.transactions import (
    TOPIC,
    End,
    commit_before,
    ends,
    events,
    from_offset,
    last_offset,
)
from spark_streaming.contract.lsn import LOG_START
from spark_streaming.contract.names import parse_topic
from spark_streaming.reading.bronze import Bronze, UnreadableObjectError
from spark_streaming.reading.bronze_names import first_offset
from spark_streaming.streams.stream_contract import is_stream_topic

ENDS_MAX = 5_000
# A topic's first record has offset 0, or 1 if a marker came first.
BEGINNING = 1
GONE, UNFINISHED = -1, -2

Place = tuple[str, int]  # topic, partition


class Barrier(NamedTuple):
    """Up to where bronze is complete.

    Args:
        ends: END records below this offset of the transaction topic may be judged.
        positions: for each partition of a table, an offset below which bronze has everything; it
            grows when bronze has more of the partition.
    """

    ends: int
    positions: Mapping[Place, int]


def is_counted(topic: str, prefix: str) -> bool:
    """Whether a topic belongs to a table; END records have no counts for a user's own stream."""
    return parse_topic(topic, prefix) is not None and not is_stream_topic(topic, prefix)


@dataclass
class Progress:
    """How far bronze was counted: each partition's last object read and the position at that time.

    `following` is the offset after that object's last: the object may be packed since.
    """

    tally: Tally = field(default_factory=Tally)
    read: dict[Place, tuple[str, int]] = field(default_factory=dict)
    following: dict[Place, int] = field(default_factory=dict)
    ends_path: str = ""
    ends_next: int = 0
    begun: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the document that `from_json` reads."""
        return {
            "format": 1,
            "tally": self.tally.to_json(),
            "read": [[*place, *at] for place, at in sorted(self.read.items())],
            "following": [[*place, at] for place, at in sorted(self.following.items())],
            "ends": [self.ends_path, self.ends_next],
            "begun": self.begun,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Progress:
        """Parse what `to_json` wrote. Raises: KeyError, TypeError, ValueError for anything else."""
        if document["format"] != 1:
            raise ValueError(f"format {document['format']}")
        read = {(topic, number): (path, at) for topic, number, path, at in document["read"]}
        following = {(topic, n): at for topic, n, at in document.get("following", ())}
        path, next_ = document["ends"]
        tally = Tally.from_json(document["tally"])
        return cls(tally, read, following, path, next_, document["begun"])


class FolderBronze(Bronze):
    """Bronze as files of the embedded object store: it needs no requests and lists only names."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None)
        self._folder = folder

    def _below(self, folder: str) -> list[str]:
        try:
            with os.scandir(self._folder / folder) as entries:
                names = [entry.name for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(f"{folder}/{name}" if folder else name for name in names)

    def content(self, path: str) -> bytes:
        """See `Bronze.content`."""
        try:
            return gzip.decompress((self._folder / path).read_bytes())
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UnreadableObjectError(f"{path}: {type(error).__name__}: {error}") from error


class Counting:
    """One pass over the objects of bronze that are new since `progress`, which it advances.

    A pass may be abandoned between any two objects. `progress` is then invalid and must be loaded
    again from the state that was saved at the end of the last slice.
    """

    def __init__(
        self,
        bronze: Bronze,
        prefix: str,
        progress: Progress,
        only: Collection[str] | None = None,
    ) -> None:
        """`only`: topics of the tables to count; None for all."""
        self._bronze = bronze
        self._prefix = prefix
        self.progress = progress
        self._only = only
        self._wrong: list[Miscount] = []

    def run(self, barrier: Barrier) -> Iterator[list[Miscount] | None]:
        """Read up to the barrier. Yields None after each object, a list at the end of each slice.

        Keep `progress` only at the end of a slice: otherwise a judged transaction may be half
        counted.
        Raises: UnreadableObjectError, ValueError, OSError if an object cannot be read.
        """
        positions = dict(barrier.positions)
        if not self.progress.begun:
            self._begin(positions)
            self.progress.begun = True
        whole = False
        while not whole:
            found: list[End] = []
            whole = yield from self._ends(barrier.ends, found)
            limit = None if whole else max(end.lsn for end in found)
            self._meet(found, positions)
            for place in sorted(positions.keys() | self.progress.read.keys()):
                if self._only is not None and place[0] not in self._only:
                    continue
                yield from self._events(place, positions.get(place, GONE), limit)
            judged = self.progress.tally.judge(found, whole=whole)
            wrong, self._wrong = self._wrong + judged, []
            yield [one for one in wrong if self._only is None or one.topic in self._only]

    def _begin(self, positions: dict[Place, int]) -> None:
        """Find partitions that Kafka no longer has, and partitions whose first objects are gone."""
        for topic in self._bronze.topics():
            if is_counted(topic, self._prefix):
                for number in self._bronze.partitions(topic):
                    positions.setdefault((topic, number), GONE)
        floor, cut = LOG_START, []
        for topic, number in positions:
            body = self._late(topic, number)
            before = commit_before(body) if body else None
            if before is not None:
                floor = max(floor, before)
                cut.append(events(body)[0].xid)
        body = self._late(self._topic, 0)
        if body:
            floor = max(floor, next((end.lsn for _, end in ends(body, self._prefix)), LOG_START))
        self.progress.tally.exclude(floor, cut)

    @property
    def _topic(self) -> str:
        return f"{self._prefix}.{TOPIC}"

    def _late(self, topic: str, number: int) -> bytes:
        """Read the first object of a partition whose beginning is gone; empty if the beginning exists."""
        path = next(self._bronze.objects(topic, number), None)
        if path is None or first_offset(path) <= BEGINNING:
            return b""
        return self._bronze.content(path)

    def _ends(self, until: int, found: list[End]) -> Generator[None, None, bool]:
        """Read END records below the offset `until`. Returns: whether all of them were read."""
        progress = self.progress
        for path in self._bronze.objects(self._topic, 0, progress.ends_path):
            if first_offset(path) >= until or progress.ends_next >= until:
                break
            if len(found) >= ENDS_MAX:
                return False
            body = self._bronze.content(path)
            found += [
                end
                for offset, end in ends(body, self._prefix)
                if progress.ends_next <= offset < until
            ]
            last = last_offset(body)
            if last < until:
                progress.ends_path = path
            progress.ends_next = min(last + 1, until)
            yield None
        return True

    def _meet(self, found: list[End], positions: dict[Place, int]) -> None:
        """Add topics that an END names and Kafka does not have: bronze may have them."""
        known = {topic for topic, _ in positions} | {topic for topic, _ in self.progress.read}
        for topic in {topic for end in found for topic in end.expected} - known:
            for number in self._bronze.partitions(topic):
                positions[(topic, number)] = GONE

    def _events(self, place: Place, position: int, limit: int | None) -> Iterator[None]:
        """Count the events of a partition's new objects, or of those that begin before `limit`."""
        path, at = self.progress.read.get(place, ("", None))
        if at == position:
            return
        for path_next in self._bronze.objects(*place, path):
            body = self._not_counted(place, path, path_next)
            if not body:
                continue
            if limit is not None:
                before = commit_before(body)
                if before is not None and before >= limit:
                    return
            self._wrong += self.progress.tally.add(place[0], events(body))
            path = path_next
            self.progress.following[place] = last_offset(body) + 1
            # The position is noted only after all objects were read.
            self.progress.read[place] = (path, UNFINISHED)
            yield None
        self.progress.read[place] = (path, position)

    def _not_counted(self, place: Place, path: str, path_next: str) -> bytes:
        """Return the lines of an object; of one in which `path`, the last one read, has been packed, those behind it."""
        body = self._bronze.content(path_next)
        if not path or first_offset(path_next) > first_offset(path):
            return body
        following = self.progress.following.get(place)
        if following is None:  # an older version saved the progress; it packed nothing
            following = last_offset(self._bronze.content(path)) + 1
        return from_offset(body, following)
