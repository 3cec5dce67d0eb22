"""The state of a table's rebuild in the lake, and the requests by which the job swaps it in.

`rebuild/<table>/<id>/` has the rebuilt table, its quarantine and `state.json`. A request
`requests/rebuild/<id>.json` asks the job to put it in silver's place; if the job refuses,
`<id>.refused.json` says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow.fs as pa_fs

from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.ops.stopped import Slice
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engine_protocol import Commit

FOLDER = "rebuild"
REQUESTS = "requests/rebuild"
REFUSED = ".refused.json"
_STATE = "state.json"
_APP_ID = "headwater:rebuild:"


@dataclass(frozen=True)
class Rebuild:
    """The progress of one rebuild of one table.

    Args:
        id: ids sort by the time when the rebuild began.
        table: its name in silver; `schema`, `source_table`: in the source; `topic`: in Kafka.
        made_for: a text that changes when the contract or its rules change.
        offsets: the next event to take of each partition.
        high_water: the positions that are merged.
        planned: the slice that is being merged.
        events: how many events were taken.
        done: whether the rebuild is complete and waits for the job.
    """

    id: str
    table: str
    schema: str
    source_table: str
    topic: str
    made_for: str = ""
    offsets: Mapping[int, int] = field(default_factory=dict)
    high_water: HighWater = field(default_factory=HighWater)
    planned: Slice | None = None
    events: int = 0
    done: bool = False

    @property
    def folder(self) -> str:
        """The folder below the lake in which the table is built."""
        return f"{FOLDER}/{self.table}/{self.id}"

    def swap(self, start: Mapping[int, int]) -> Slice:
        """The step that replaces silver at offsets `start` by the rebuilt table."""
        return Slice(dict(start), dict(self.offsets), Commit(_APP_ID + self.id, 0))

    def naming_event(self) -> RawEvent:
        """An event that names the source's table, as every event of the topic does."""
        source = {"source": {"schema": self.schema, "table": self.source_table}}
        return RawEvent(self.topic, 0, -1, 0, None, json.dumps(source).encode(), [])

    def taken(self, piece: Slice, events: int, high_water: HighWater) -> Rebuild:
        """The state after one more merged slice."""
        ends = {**self.offsets, **piece.end}
        return replace(
            self,
            offsets=ends,
            high_water=high_water,
            planned=None,
            events=self.events + events,
        )

    def to_json(self) -> str:
        """The state as JSON; `from_json` reads it back."""
        plain = {**self.__dict__, "offsets": dict(self.offsets)}
        plain["high_water"] = self.high_water.to_json()
        plain["planned"] = self.planned.to_json() if self.planned else None
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> Rebuild:
        """Read a state that `to_json` wrote. Raises: ValueError for other text."""
        try:
            given = json.loads(text)
            given["offsets"] = {int(p): int(o) for p, o in given["offsets"].items()}
            given["high_water"] = HighWater.from_json(given["high_water"])
            given["planned"] = Slice.from_json(given["planned"]) if given["planned"] else None
            return cls(**given)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a rebuild's state: {error}") from error


def rebuild_of(planned: Slice | None) -> str | None:
    """The id of the rebuild that a planned step swaps in; None for other steps."""
    if planned is None or not planned.commit.app_id.startswith(_APP_ID):
        return None
    return planned.commit.app_id.removeprefix(_APP_ID)


class RebuildStore:
    """The rebuilds of one lake."""

    def __init__(self, lake: Lake) -> None:
        self._files: Any = lake.filesystem()

    def keep(self, state: Rebuild) -> None:
        """Write a rebuild's state; it replaces the last one."""
        self._write(f"{state.folder}/{_STATE}", state.to_json())

    def state(self, table: str, rebuild_id: str) -> Rebuild | None:
        """Read a rebuild's state; None if it has none. Raises: ValueError, OSError."""
        place = Rebuild(rebuild_id, table, "", "", "").folder
        text = self._read(f"{place}/{_STATE}")
        return None if text is None else Rebuild.from_json(text)

    def of(self, table: str) -> list[Rebuild]:
        """The existing rebuilds of a table, oldest first."""
        folder = Rebuild("", table, "", "", "").folder.rstrip("/")
        selector = pa_fs.FileSelector(folder, allow_not_found=True)
        names = sorted(str(info.base_name) for info in self._files.get_file_info(selector))
        found = [self.state(table, name) for name in names]
        return [state for state in found if state is not None]

    def remove(self, state: Rebuild) -> None:
        """Remove a rebuild's folder and its request."""
        if self._files.get_file_info(state.folder).type != pa_fs.FileType.NotFound:
            self._files.delete_dir(state.folder)
        for end in (REFUSED, ".json"):
            self._delete(f"{REQUESTS}/{state.id}{end}")

    def ask(self, state: Rebuild) -> None:
        """Ask the job to replace silver's rows by the rebuilt table."""
        self._delete(f"{REQUESTS}/{state.id}{REFUSED}")
        self._write(f"{REQUESTS}/{state.id}.json", json.dumps({"table": state.table}))

    def asked(self) -> list[tuple[str, str]]:
        """The open requests: (rebuild id, silver table), oldest first."""
        selector = pa_fs.FileSelector(REQUESTS, allow_not_found=True)
        found = []
        for info in sorted(self._files.get_file_info(selector), key=lambda i: str(i.path)):
            name = str(info.base_name)
            if not name.endswith(".json") or name.endswith(REFUSED):
                continue
            text = self._read(str(info.path))
            if text is not None:
                found.append((name.removesuffix(".json"), str(json.loads(text)["table"])))
        return found

    def refuse(self, rebuild_id: str, reason: str) -> None:
        """Refuse a request with a reason, and delete the request."""
        self._write(f"{REQUESTS}/{rebuild_id}{REFUSED}", json.dumps({"reason": reason}))
        self._delete(f"{REQUESTS}/{rebuild_id}.json")

    def refusal(self, rebuild_id: str) -> str | None:
        """Why the job refused a request; None if it did not."""
        text = self._read(f"{REQUESTS}/{rebuild_id}{REFUSED}")
        return None if text is None else str(json.loads(text)["reason"])

    def _read(self, path: str) -> str | None:
        try:
            with self._files.open_input_stream(path) as stream:
                return bytes(stream.readall()).decode()
        except FileNotFoundError:
            return None

    def _write(self, path: str, text: str) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(text.encode())

    def _delete(self, path: str) -> None:
        if self._files.get_file_info(path).type == pa_fs.FileType.File:
            self._files.delete_file(path)
