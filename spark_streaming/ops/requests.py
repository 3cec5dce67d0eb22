"""Requests to the silver job, as objects in the lake: only that process writes tables.

A request is `requests/quarantine/<id>.json`; its answer, which replaces it, is `<id>.answer.json` beside it. (A
request to resume a stopped table needs no answer: see `resume_requests`.)
An unanswered request survives a crash of either side, and carrying it out twice changes nothing.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import pyarrow.fs as pa_fs

from spark_streaming.events.event import Place
from spark_streaming.storage.lake import Lake

log = logging.getLogger(__name__)
FOLDER = "requests/quarantine"
STREAM_FOLDER = "requests/stream_quarantine"
ANSWER = ".answer.json"
# After this time no client waits for an answer any more.
ANSWER_KEPT = timedelta(hours=1)
_REQUEST = re.compile(r"[0-9TZ]+-[0-9a-f]{8}\.json")


@dataclass(frozen=True)
class Request:
    """What to do with entries of quarantine.

    Args:
        id: ids sort by the time of the request.
        tables: silver tables; empty means all.
        places: entries, which bring the other entries of the same rows along; empty means all
        entries of the tables.
        edits: entries with new values for this replay: column -> text as Postgres prints it, None
            for NULL. The other columns keep the event's values.
    """

    id: str
    action: Literal["replay", "discard"]
    tables: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    edits: tuple[tuple[Place, dict[str, str | None]], ...] = ()

    def to_json(self) -> bytes:
        """The request as the object's content."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Request:
        """Parse a request. Raises: ValueError for any other text."""
        try:
            given = json.loads(text)
            if given["action"] not in ("replay", "discard"):
                raise ValueError(f"action {given['action']!r}")
            places = tuple(Place(str(t), int(p), int(o)) for t, p, o in given["places"])
            edits = tuple(
                (Place(str(t), int(p), int(o)), dict(values))
                for (t, p, o), values in given.get("edits", ())
            )
            return cls(str(given["id"]), given["action"], tuple(given["tables"]), places, edits)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a request: {error}") from error


@dataclass(frozen=True)
class Outcome:
    """The outcome for one entry."""

    table: str
    place: Place
    outcome: Literal["replayed", "superseded", "discarded", "open"]
    reason: str = ""


@dataclass(frozen=True)
class Answer:
    """The answer to a request; `error` says why it could not be carried out."""

    outcomes: list[Outcome] = field(default_factory=list)
    error: str = ""


class Desk:
    """The requests of one lake: clients put requests and read answers, the job carries them out.

    Args:
        folder: the folder of the requests; each serving job has its own.
    """

    def __init__(self, lake: Lake, folder: str = FOLDER) -> None:
        self._files: Any = lake.filesystem()
        self._folder = folder

    def ask(self, request: Request) -> None:
        """Write a request for the job."""
        self._write(f"{self._folder}/{request.id}.json", request.to_json())

    def answer_to(self, request_id: str) -> Answer | None:
        """Return the answer and remove it; None while there is none."""
        path = f"{self._folder}/{request_id}{ANSWER}"
        try:
            with self._files.open_input_stream(path) as stream:
                given = json.loads(stream.readall())
        except FileNotFoundError:
            return None
        self._files.delete_file(path)
        outcomes = [
            Outcome(o["table"], Place(*o["place"]), o["outcome"], o["reason"])
            for o in given["outcomes"]
        ]
        return Answer(outcomes, given["error"])

    def pending(self) -> list[Request]:
        """The waiting requests, oldest first; removes old answers and invalid requests."""
        selector = pa_fs.FileSelector(self._folder, allow_not_found=True)
        found = []
        for info in sorted(self._files.get_file_info(selector), key=lambda i: str(i.path)):
            if info.base_name.endswith(ANSWER):
                if datetime.now(timezone.utc) - info.mtime > ANSWER_KEPT:
                    self._files.delete_file(info.path)
            elif _REQUEST.fullmatch(info.base_name):
                try:
                    with self._files.open_input_stream(info.path) as stream:
                        found.append(Request.from_json(stream.readall()))
                except ValueError as error:
                    log.warning("%s is dropped: %s", info.path, error)
                    self._files.delete_file(info.path)
        return found

    def answer(self, request: Request, answer: Answer) -> None:
        """Write the answer to a request, then remove the request."""
        self._write(f"{self._folder}/{request.id}{ANSWER}", json.dumps(asdict(answer)).encode())
        self._files.delete_file(f"{self._folder}/{request.id}.json")

    def _write(self, path: str, content: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(content)


def new_id(now: datetime, random: str) -> str:
    """A request's id: the time, so that ids sort by it, and 8 hex digits."""
    return f"{now.astimezone(timezone.utc).strftime('%Y%m%dT%H%M%S%f')}Z-{random[:8]}"


def summary(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Outcome → number of entries."""
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.outcome] = counts.get(outcome.outcome, 0) + 1
    return counts
