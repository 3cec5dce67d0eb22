"""A lake in a folder: real Delta tables without an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
from obstore.store import LocalStore

from spark_streaming.storage.lake import Lake


class DiskLake(Lake):
    """A lake whose bucket is a folder of this machine; it can be made unavailable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.away = False

    def __repr__(self) -> str:
        return f"DiskLake({self.folder})"

    def below(self, folder: str) -> Lake:
        return DiskLake(self.folder / folder)

    def for_writing(self) -> Lake:
        self.url("")
        return self

    def url(self, path: str) -> str:
        if self.away:
            raise OSError("the store is away")
        return str(self.folder / path)

    def storage_options(self) -> dict[str, str]:
        return {}

    def filesystem(self) -> Any:
        self.url("")
        self.folder.mkdir(parents=True, exist_ok=True)
        return _Folder(self.folder)

    def objects(self, path: str) -> Any:
        return LocalStore(self.url(path), mkdir=True)


class _Folder:
    """A folder that behaves like an object store: writing an object creates its parent folders."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = pa_fs.SubTreeFileSystem(str(root), pa_fs.LocalFileSystem())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def open_output_stream(self, path: str, **options: Any) -> Any:
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        return self._files.open_output_stream(path, **options)
