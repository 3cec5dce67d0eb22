"""A lake in a folder of this machine: real Delta tables without an object store."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs as pa_fs

from spark_streaming.storage.lake import Lake


class FolderLake(Lake):
    """A lake in a folder, which can be away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.away = False

    def url(self, path: str) -> str:
        if self.away:
            raise OSError("the store is away")
        return str(self.folder / path)

    def storage_options(self) -> dict[str, str]:
        return {}

    def filesystem(self) -> pa_fs.FileSystem:
        if self.away:
            raise OSError("the store is away")
        return pa_fs.SubTreeFileSystem(str(self.folder), pa_fs.LocalFileSystem())
