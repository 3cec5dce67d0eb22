"""The Delta tables that stand in the lake: which there are, and which table each one is."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow.fs as pa_fs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from spark_streaming.lake import Lake

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Which table stands at a path: its Delta table id (new when made again), and its columns."""

    table_id: str
    columns: str


class LakeTables:
    """The lake's folders as tables. Two listings a call of `listed`; nothing is kept."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._files: Any = lake.filesystem()

    def listed(self, schemas: Iterable[str]) -> dict[str, str]:
        """The folders that may hold a table: `schema.table` in lower case → path in the lake.

        Raises: OSError where the store does not answer.
        """
        found: dict[str, str] = {}
        for schema in schemas:
            selector = pa_fs.FileSelector(schema, allow_not_found=True)
            folders = [i for i in self._files.get_file_info(selector) if not i.is_file]
            for folder in sorted(folders, key=lambda info: str(info.base_name)):
                # Trino knows names in lower case only.
                name = f"{schema}.{unquote(folder.base_name).lower()}"
                if name in found:
                    log.debug("%s and %s have one name in Trino", found[name], folder.path)
                    continue
                found[name] = f"{schema}/{folder.base_name}"
        return found

    def identity(self, path: str) -> Identity | None:
        """Which table stands at `path`; None where there is none, or none yet.

        Raises: DeltaError where its log cannot be read, OSError where the store does not answer.
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
            # A first commit that is being written: a log folder without a version.
            if "no version" in str(error).lower() or "not a delta table" in str(error).lower():
                return None
            raise
        return Identity(str(table.metadata().id), str(table.schema().to_json()))

    def location(self, path: str) -> str:
        """The address of `path`: s3://bucket/path."""
        return self._lake.url(path)
