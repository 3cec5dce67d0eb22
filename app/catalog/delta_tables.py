"""Lists the Delta tables of the lake and identifies each one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow.fs as pa_fs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from spark_streaming.contract.names import STREAM
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.kept_versions import VersionsNote, read_note
from spark_streaming.tables.meaning import TableMeaning, read_meaning
from spark_streaming.tables.ownership import noted_source

log = logging.getLogger(__name__)


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


class LakeTables:
    """Reads the lake's folders as tables; keeps no state."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._files: Any = lake.filesystem()

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
        try:
            table = DeltaTable(
                self.location(path),
                storage_options=self._lake.storage_options(),
                without_files=True,
            )
        except TableNotFoundError:
            return None
        except DeltaError as error:
            # The first commit is being written: there is a log folder without a version.
            if "no version" in str(error).lower() or "not a delta table" in str(error).lower():
                return None
            raise
        found = table.metadata()
        return Identity(
            str(found.id),
            _columns(str(table.schema().to_json())),
            read_meaning(table),
            source=noted_source(found) or "",
            stream=found.configuration.get(STREAM) or "",
        )

    def size(self, path: str) -> Size | None:
        """Read how much the table at `path` holds; None if there is none.

        Raises: DeltaError, OSError as `identity`.
        """
        try:
            found = self._lake.table(path).get_add_actions(flatten=True)
            versions = read_note(self._lake, path)
        except TableNotFoundError:
            return None
        rows = found["num_records"].to_pylist()
        size = sum(found["size_bytes"].to_pylist())
        return Size(None if None in rows else sum(rows), size, versions)

    def location(self, path: str) -> str:
        """Return the address of `path`: s3://bucket/path."""
        return self._lake.url(path)


def _columns(schema: str) -> str:
    """Return the schema without the columns' metadata, whose order differs at each reading."""
    found = json.loads(schema)
    found["fields"] = [{**one, "metadata": {}} for one in found["fields"]]
    return json.dumps(found, sort_keys=True)
