"""A request's events: judged one by one, put on Kafka together, answered one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import orjson

from spark_streaming.streams.contract import Stream, read_streams, stream_folders
from spark_streaming.streams.event import Judge, Refused, encode

EVENTS_MAX = 1_000
FILES_LOOK_S = 5.0
RETRY_AFTER_S = 1


class Unavailable(Exception):
    """A request cannot be taken as it is; `status` is HTTP's."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.told = {"message": message, **({"hint": hint} if hint else {})}


class Producer(Protocol):
    """Puts records on a topic; tells of each whether the broker has it."""

    def send(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> list[str | None]: ...


class Budget:
    """How many bytes of requests may be held at once; beyond it senders are told to wait."""

    def __init__(self, bytes_max: int) -> None:
        self._max = bytes_max
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes of the requests that are under way."""
        return self._held

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold `size` bytes. Raises: Unavailable (429) where they do not fit now."""
        with self._lock:
            if self._held + size > self._max:
                raise Unavailable(429, "too much is under way", "send it again in a second")
            self._held += size
        try:
            yield
        finally:
            with self._lock:
                self._held -= size


class Streams:
    """The declared streams with their judges; a changed file counts within seconds."""

    def __init__(self, contracts_path: str) -> None:
        self._folders = stream_folders(contracts_path)
        self._lock = threading.Lock()
        self._looked_at = -FILES_LOOK_S
        self._stamp: object = None
        self._known: dict[str, tuple[Stream, Judge]] = {}
        self._wrong: dict[str, str] = {}

    def named(self, name: str) -> tuple[Stream, Judge]:
        """Raises: Unavailable: 404 where no file declares it, 503 where its file is wrong."""
        with self._lock:
            self._look()
            if name in self._wrong:
                raise Unavailable(503, f"the stream's file is wrong: {self._wrong[name]}")
            if name not in self._known:
                known = ", ".join(sorted(self._known)) or "none"
                hint = f"known are {known}; a stream is declared by a file, streams/<name>.toml"
                raise Unavailable(404, "there is no such stream", hint)
            return self._known[name]

    def all(self) -> list[Stream]:
        """Every stream whose file is right."""
        with self._lock:
            self._look()
            return [stream for stream, _ in self._known.values()]

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < FILES_LOOK_S:
            return
        self._looked_at = time.monotonic()
        try:
            files = [path for folder in self._folders for path in sorted(folder.glob("*.toml"))]
            stamp = [_stamp(path) for path in files]
        except OSError:  # a file went between the two: the next look has what is there
            return
        if stamp == self._stamp:
            return
        self._stamp = stamp
        streams, problems = read_streams(self._folders)
        self._known = {name: (stream, Judge(stream)) for name, stream in streams.items()}
        self._wrong = {p.file.stem: p.message for p in problems}


def _stamp(path: Path) -> tuple[Path, int, int]:
    found = path.stat()
    return path, found.st_mtime_ns, found.st_size


@dataclass
class Taken:
    """What became of a request's events, by their number in it."""

    accepted: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """200, or 503 where the broker has not confirmed all: those are to be sent again."""
        return 503 if self.unknown else 200

    def as_dict(self) -> dict[str, Any]:
        """The answer's body."""
        found: dict[str, Any] = {"accepted": self.accepted, "refused": self.refused}
        if self.unknown:
            found["unknown"] = self.unknown
            found["error"] = {
                "message": "Kafka has not confirmed all events in time",
                "hint": "send the unknown ones again with the same keys: silver has each once",
            }
        return found


def events_in(body: bytes) -> list[Any]:
    """The events of a request's body. Raises: Unavailable."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unavailable(400, f"the body is not JSON: {error}") from None
    events = document.get("events") if isinstance(document, Mapping) else None
    if not isinstance(events, list) or len(document) != 1:
        raise Unavailable(400, 'the body is not {"events": […]}')
    if len(events) > EVENTS_MAX:
        raise Unavailable(413, f"{len(events)} events; at most {EVENTS_MAX} a request")
    return events


def take(stream: Stream, judge: Judge, producer: Producer, prefix: str, events: list[Any]) -> Taken:
    """Put the events that hold to the contract on the stream's topic; tell of the others why not.

    It returns when the broker has them, or after the producer's time for that.
    """
    taken = Taken()
    now = datetime.now(timezone.utc)
    records: list[tuple[bytes, bytes]] = []
    numbers: list[int] = []
    for number, document in enumerate(events):
        try:
            records.append(encode(judge.check(document, now), document["data"]))
            numbers.append(number)
        except Refused as refused:
            taken.refused.append(
                {
                    "index": number,
                    "key": _key_of(document),
                    "rule": refused.rule,
                    "reason": refused.reason,
                }
            )
    failures = producer.send(stream.topic(prefix), records) if records else []
    for number, (key, _), failure in zip(numbers, records, failures, strict=True):
        if failure is None:
            taken.accepted += 1
        else:
            taken.unknown.append({"index": number, "key": key.decode(), "reason": failure})
    return taken


def _key_of(document: Any) -> str | None:
    key = document.get("key") if isinstance(document, Mapping) else None
    return key[:200] if isinstance(key, str) else None
