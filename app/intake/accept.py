"""Accepts a request's events: checks each against its contract, writes them to Kafka, reports on each."""

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

from spark_streaming.streams.stream_contract import Stream, read_streams, stream_folders
from spark_streaming.streams.stream_event import Judge, Refused, encode

EVENTS_MAX = 1_000
FILES_CHECK_S = 5.0
RETRY_AFTER_S = 1


class Unavailable(Exception):
    """A request that cannot be accepted; `status` is HTTP's, `error` the field of the answer's body."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, **({"hint": hint} if hint else {})}


class Producer(Protocol):
    """Writes records to a topic; returns for each None, or why the broker has not confirmed it."""

    def send(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> list[str | None]: ...


class Budget:
    """Limits the bytes of all requests under way; beyond the limit senders are asked to wait."""

    def __init__(self, bytes_max: int) -> None:
        self._max = bytes_max
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes of the requests that are under way."""
        return self._used

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Reserve `size` bytes while the block runs. Raises: Unavailable (429) if they do not fit."""
        with self._lock:
            if self._used + size > self._max:
                raise Unavailable(429, "too much is under way", "send it again in a second")
            self._used += size
        try:
            yield
        finally:
            with self._lock:
                self._used -= size


class Streams:
    """The declared streams, each with the judge of its events; reads changed files within seconds."""

    def __init__(self, contracts_path: str) -> None:
        self._folders = stream_folders(contracts_path)
        self._lock = threading.Lock()
        self._checked_at = -FILES_CHECK_S
        self._stamp: object = None
        self._known: dict[str, tuple[Stream, Judge]] = {}
        self._wrong: dict[str, str] = {}

    def named(self, name: str) -> tuple[Stream, Judge]:
        """Return a stream. Raises: Unavailable (404: no file declares it; 503: its file is wrong)."""
        with self._lock:
            self._refresh()
            if name in self._wrong:
                raise Unavailable(503, f"the stream's file is wrong: {self._wrong[name]}")
            if name not in self._known:
                known = ", ".join(sorted(self._known)) or "none"
                hint = f"known are {known}; a stream is declared by a file, streams/<name>.toml"
                raise Unavailable(404, "there is no such stream", hint)
            return self._known[name]

    def all(self) -> list[Stream]:
        """Return every stream whose file is right."""
        with self._lock:
            self._refresh()
            return [stream for stream, _ in self._known.values()]

    def _refresh(self) -> None:
        if time.monotonic() - self._checked_at < FILES_CHECK_S:
            return
        self._checked_at = time.monotonic()
        try:
            files = [path for folder in self._folders for path in sorted(folder.glob("*.toml"))]
            stamp = [_stamp(path) for path in files]
        except OSError:  # a file disappeared meanwhile: the next check sees the rest
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
class Result:
    """What became of a request's events, each named by its index in the request."""

    accepted: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """200, or 503 if the broker has not confirmed all of them; those must be sent again."""
        return 503 if self.unknown else 200

    def as_dict(self) -> dict[str, Any]:
        """Return the answer's body."""
        found: dict[str, Any] = {"accepted": self.accepted, "refused": self.refused}
        if self.unknown:
            found["unknown"] = self.unknown
            found["error"] = {
                "message": "Kafka has not confirmed all events in time",
                "hint": "send the unknown ones again with the same keys: silver has each once",
            }
        return found


def events_in(body: bytes) -> list[Any]:
    """Parse the events of a request's body. Raises: Unavailable."""
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


def accept_events(
    stream: Stream, judge: Judge, producer: Producer, prefix: str, events: list[Any]
) -> Result:
    """Write the events that keep the contract to the stream's topic; report why the others are refused.

    Returns when the broker has confirmed them, or after the producer's time limit.
    """
    result = Result()
    now = datetime.now(timezone.utc)
    records: list[tuple[bytes, bytes]] = []
    numbers: list[int] = []
    for number, document in enumerate(events):
        try:
            records.append(encode(judge.check(document, now), document["data"]))
            numbers.append(number)
        except Refused as refused:
            result.refused.append(
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
            result.accepted += 1
        else:
            result.unknown.append({"index": number, "key": key.decode(), "reason": failure})
    return result


def _key_of(document: Any) -> str | None:
    key = document.get("key") if isinstance(document, Mapping) else None
    return key[:200] if isinstance(key, str) else None
