"""Lists the Delta tables of the lake and identifies each one."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow.fs as pa_fs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from obstore.exceptions import BaseError

from spark_streaming.contract.names import STREAM
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.kept_versions import VersionsNote, read_note
from spark_streaming.tables.meaning import TableMeaning, read_meaning
from spark_streaming.tables.ownership import noted_source

log = logging.getLogger(__name__)
# A log is opened again after this time even if its newest commit is the same object.
OPENED_AGAIN_S = 300.0
_COMMIT = re.compile(r"(\d{20})\.json")


@dataclass(frozen=True)
class Identity:
    """The table at a path: its Delta table id (a new one when made again), and its columns.

    `meaning`: its descriptions, which are ignored when tables are compared.
    `source`: the source table that it is a copy of, quoted; `stream`: the stream that it holds.
    """

    table_id: str
    columns: str
    meaning: TableMeaning = field(default=TableMeaning(""), compare=False)
    source: str = field(default="", compare=False)
    stream: str = field(default="", compare=False)

    def holds(self, column: str) -> bool:
        """Check whether the table has a column of this name."""
        return any(each["name"] == column for each in json.loads(self.columns)["fields"])


@dataclass(frozen=True)
class Size:
    """What a table's newest version holds, by its log; rows: None if a file does not say.

    `versions`: what older ones take, as the table's last vacuum noted it; None before the first.
    """

    rows: int | None
    bytes: int
    versions: VersionsNote | None = None


@dataclass(frozen=True)
class _Opened:
    """What a table's log said when it was read, up to `version`; `commit` is the ETag of that version's object."""

    version: int
    commit: str
    identity: Identity
    size: Size
    opened_at: float


class LakeTables:
    """Reads the lake's folders as tables.

    Opening a table takes up to thirty requests, so it is opened again only after a new commit; to ask for one is
    one request.
    """

    def __init__(self, lake: Lake, clock: Callable[[], float] = time.monotonic) -> None:
        self._lake = lake
        self._files: Any = lake.filesystem()
        self._objects: Any = lake.objects("")
        self._clock = clock
        self._opened: dict[str, _Opened] = {}

    def listed(self, schemas: Iterable[str]) -> dict[str, str]:
        """List the folders that may hold a table: `schema.table` in lower case → path in the lake.

        Costs one listing a schema. Raises: OSError if the object store does not answer.
        """
        paths: dict[str, str] = {}
        for schema in schemas:
            selector = pa_fs.FileSelector(schema, allow_not_found=True)
            folders = [i for i in self._files.get_file_info(selector) if not i.is_file]
            for folder in sorted(folders, key=lambda info: str(info.base_name)):
                # Trino has only lower-case names.
                name = f"{schema}.{folder.base_name.lower()}"
                if name in paths:
                    log.debug("%s and %s have one name in Trino", paths[name], folder.path)
                    continue
                paths[name] = f"{schema}/{folder.base_name}"
        return paths

    def identity(self, path: str) -> Identity | None:
        """Identify the table at `path`; None if there is none yet.

        Raises: DeltaError if its log cannot be read, OSError if the object store does not answer.
        """
        opened = self._newest(path)
        return opened.identity if opened is not None else None

    def size(self, path: str) -> Size | None:
        """Read how much the table at `path` holds; None if there is none.

        Raises: DeltaError, OSError as `identity`.
        """
        opened = self._newest(path)
        if opened is None:
            return None
        return replace(opened.size, versions=read_note(self._lake, path))

    def _newest(self, path: str) -> _Opened | None:
        """The table at `path` as its newest commit has it; None if there is none."""
        known = self._opened.pop(path, None)
        if known is not None and self._is_newest(known, path):
            self._opened[path] = known
            return known
        return self._open(path)

    def _is_newest(self, known: _Opened, path: str) -> bool:
        if self._clock() - known.opened_at >= OPENED_AGAIN_S:
            return False
        # A table that was made again under the same name has another object here, or none.
        return self._commits_from(path, known.version) == {known.version: known.commit}

    def _open(self, path: str) -> _Opened | None:
        try:
            table = DeltaTable(self.location(path), storage_options=self._lake.storage_options())
        except TableNotFoundError:
            return None
        except DeltaError as error:
            # The first commit is being written: there is a log folder without a version.
            if "no version" in str(error).lower() or "not a delta table" in str(error).lower():
                return None
            raise
        version = int(table.version())
        commit = self._commits_from(path, version).get(version, "")
        opened = _Opened(version, commit, _identity(table), _size(table), self._clock())
        self._opened[path] = opened
        return opened

    def _commits_from(self, path: str, version: int) -> dict[int, str]:
        """List the commits from `version` on, each with the ETag of its object. Raises: OSError."""
        folder = f"{path}/_delta_log/"
        found = {}
        try:
            for page in self._objects.list(folder, offset=f"{folder}{version:020d}"):
                for one in page:
                    name = _COMMIT.fullmatch(one["path"].rpartition("/")[2])
                    if name:
                        found[int(name[1])] = str(one["e_tag"])
        except BaseError as error:
            raise OSError(f"the log of {path} could not be listed: {error}") from error
        return found

    def location(self, path: str) -> str:
        """Return the address of `path`: s3://bucket/path."""
        return self._lake.url(path)


def _identity(table: DeltaTable) -> Identity:
    found = table.metadata()
    return Identity(
        str(found.id),
        _columns(str(table.schema().to_json())),
        read_meaning(table),
        source=noted_source(found) or "",
        stream=found.configuration.get(STREAM) or "",
    )


def _size(table: DeltaTable) -> Size:
    files = table.get_add_actions(flatten=True)
    rows = files["num_records"].to_pylist()
    return Size(None if None in rows else sum(rows), sum(files["size_bytes"].to_pylist()))


def _columns(schema: str) -> str:
    """Return the schema without the columns' metadata, whose order differs at each reading."""
    found = json.loads(schema)
    found["fields"] = [{**one, "metadata": {}} for one in found["fields"]]
    return json.dumps(found, sort_keys=True)
