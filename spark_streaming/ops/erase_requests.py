"""Requests to the silver job to erase rows from the tables that only it writes, as objects in the lake.

A request is `requests/erase/<id>.json`, its answer `<id>.answer.json`. Both are there until the command that asked has
written its receipt and removes them: so a command that was killed finds the answer at its next start.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.fs as pa_fs

from spark_streaming.events.event import Place
from spark_streaming.storage.lake import Lake

log = logging.getLogger(__name__)
FOLDER = "requests/erase"
ANSWER = ".answer.json"
# What an unfinished erasure has still to do; only the command reads all of it (app/erase).
PLAN = ".plan.json"
_REQUEST = re.compile(r"[0-9TZ]+-[0-9a-f]{8}\.json")


@dataclass(frozen=True)
class ErasedKey:
    """A key whose versions go.

    Args:
        values: the values of the key's columns as events carry them, in the key's order.
        lsns: the first and last position (in bytes) of the changes that go; None: all of the key.
    """

    values: tuple[Any, ...]
    lsns: tuple[int, int] | None = None


@dataclass(frozen=True)
class EraseRequest:
    """What to erase.

    Args:
        id: ids sort by the time of the request.
        table: silver's name.
        keys: the keys whose versions in the history go.
        places: the events whose entries in quarantine go.
    """

    id: str
    table: str
    keys: tuple[ErasedKey, ...]
    places: tuple[Place, ...]

    def to_json(self) -> bytes:
        """The request as the object's content."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> EraseRequest:
        """Parse a request. Raises: ValueError for any other text."""
        try:
            given = json.loads(text)
            keys = tuple(
                ErasedKey(tuple(k["values"]), tuple(k["lsns"]) if k["lsns"] else None)
                for k in given["keys"]
            )
            places = tuple(Place(str(t), int(p), int(o)) for t, p, o in given["places"])
            return cls(str(given["id"]), str(given["table"]), keys, places)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a request: {type(error).__name__}") from error


@dataclass(frozen=True)
class EraseAnswer:
    """What the job removed: entries of quarantine, versions of the history; `error` says why it could not."""

    entries: int = 0
    versions: int = 0
    error: str = ""


def planned_topics(files: Any) -> set[str]:
    """Return the topics of a lake with an unfinished erasure. Raises: OSError, ValueError."""
    infos = files.get_file_info(pa_fs.FileSelector(FOLDER, allow_not_found=True))
    found = set()
    for path in (str(info.path) for info in infos if info.base_name.endswith(PLAN)):
        try:
            with files.open_input_stream(path) as stream:
                found.add(str(json.loads(stream.readall())["topic"]))
        except FileNotFoundError:
            continue  # it is finished
    return found


class EraseDesk:
    """Holds a lake's requests to erase: a command writes one and reads its answer; the job carries it out."""

    def __init__(self, lake: Lake) -> None:
        self._files: Any = lake.filesystem()

    def ask(self, request: EraseRequest) -> None:
        """Write a request for the job."""
        self._write(f"{FOLDER}/{request.id}.json", request.to_json())

    def pending(self) -> list[EraseRequest]:
        """The requests that wait for an answer, oldest first; removes invalid ones."""
        infos = self._files.get_file_info(pa_fs.FileSelector(FOLDER, allow_not_found=True))
        names = {str(info.base_name) for info in infos}
        found = []
        for name in sorted(one for one in names if _REQUEST.fullmatch(one)):
            path = f"{FOLDER}/{name}"
            if name.removesuffix(".json") + ANSWER in names:
                self._delete(path)  # the job ended between the answer and this
                continue
            text = self._read(path)
            try:
                if text is not None:
                    found.append(EraseRequest.from_json(text))
            except ValueError as error:
                log.warning("%s is dropped: %s", path, error)
                self._delete(path)
        return found

    def answer(self, request: EraseRequest, answer: EraseAnswer) -> None:
        """Write the answer to a request, then remove the request, which has the key in clear."""
        self._write(f"{FOLDER}/{request.id}{ANSWER}", json.dumps(asdict(answer)).encode())
        self._delete(f"{FOLDER}/{request.id}.json")

    def answer_to(self, request_id: str) -> EraseAnswer | None:
        """Return the answer; None while there is none."""
        text = self._read(f"{FOLDER}/{request_id}{ANSWER}")
        return None if text is None else EraseAnswer(**json.loads(text))

    def remove(self, request_id: str) -> None:
        """Remove a request and its answer."""
        for end in (".json", ANSWER):
            self._delete(f"{FOLDER}/{request_id}{end}")

    def _read(self, path: str) -> bytes | None:
        try:
            with self._files.open_input_stream(path) as stream:
                return bytes(stream.readall())
        except FileNotFoundError:
            return None

    def _write(self, path: str, content: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(content)

    def _delete(self, path: str) -> None:
        if self._files.get_file_info(path).type == pa_fs.FileType.File:
            self._files.delete_file(path)
