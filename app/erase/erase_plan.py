"""What an erasure has still to do, kept in the lake until its receipt is written.

Once the first object of bronze is rewritten, a search no longer finds the events in it. So the plan is written before,
and a command that was killed continues by it. It has the key in clear and is removed at the end.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow.fs as pa_fs

from spark_streaming.events.event import Place
from spark_streaming.ops.erase_requests import FOLDER, PLAN, ErasedKey, EraseRequest
from spark_streaming.storage.lake import Lake


@dataclass(frozen=True)
class Plan:
    """One erasure.

    Args:
        id: sorts by time.
        table, source: silver's name, and `schema.table` of the source.
        topic: the table's topic.
        digest: the keyed digest of the key, for the receipt.
        asked_by, asked_at: the user of the operating system; ISO 8601.
        objects: object of bronze → [partition, offsets to erase].
        entries: events that only quarantine has (bronze's are gone): topic, partition, offset.
        keys: the keys whose versions in the history go.
        lsns: the first and last position of the erased events, in bytes; None without events.
        searched: objects of bronze that were searched.
    """

    id: str
    table: str
    source: str
    topic: str
    digest: str
    asked_by: str
    asked_at: str
    keys: tuple[ErasedKey, ...]
    objects: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    entries: tuple[Place, ...] = ()
    lsns: tuple[int, int] | None = None
    searched: int = 0

    @property
    def events(self) -> int:
        return sum(len(offsets) for _, offsets in self.objects.values())

    def offsets(self) -> dict[int, list[int]]:
        """Return partition → offsets of the erased events, sorted."""
        found: dict[int, list[int]] = {}
        for partition, offsets in self.objects.values():
            found.setdefault(partition, []).extend(offsets)
        return {partition: sorted(offsets) for partition, offsets in sorted(found.items())}

    def request(self) -> EraseRequest:
        """Return the request to the silver job."""
        places = {Place(self.topic, p, o) for p, offsets in self.offsets().items() for o in offsets}
        return EraseRequest(self.id, self.table, self.keys, tuple(sorted({*places, *self.entries})))

    def to_json(self) -> str:
        """The plan as the object's content."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Plan:
        """Read what `to_json` wrote. Raises: ValueError, KeyError, TypeError for anything else."""
        given: dict[str, Any] = json.loads(text)
        given["keys"] = tuple(
            ErasedKey(tuple(k["values"]), tuple(k["lsns"]) if k["lsns"] else None)
            for k in given["keys"]
        )
        given["objects"] = {path: (p, tuple(some)) for path, (p, some) in given["objects"].items()}
        given["entries"] = tuple(Place(*one) for one in given["entries"])
        given["lsns"] = tuple(given["lsns"]) if given["lsns"] else None
        return cls(**given)


class Plans:
    """The unfinished erasures of a lake."""

    def __init__(self, lake: Lake) -> None:
        self._files: Any = lake.filesystem()

    def keep(self, plan: Plan) -> None:
        """Write a plan."""
        with self._files.open_output_stream(f"{FOLDER}/{plan.id}{PLAN}") as stream:
            stream.write(plan.to_json().encode())

    def all(self) -> list[Plan]:
        """Return the plans, oldest first."""
        infos = self._files.get_file_info(pa_fs.FileSelector(FOLDER, allow_not_found=True))
        found = []
        for path in sorted(str(info.path) for info in infos if info.base_name.endswith(PLAN)):
            with self._files.open_input_stream(path) as stream:
                found.append(Plan.from_json(stream.readall()))
        return found

    def remove(self, plan: Plan) -> None:
        """Remove a plan whose receipt is written."""
        self._files.delete_file(f"{FOLDER}/{plan.id}{PLAN}")
