"""The files of a folder or of a bucket of the stack's object store, and a copy of one to read."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs

from app.errors import HeadwaterError
from spark_streaming.storage.store_address import ObjectStore
from spark_streaming.storage.store_clients import arrow_files

BUCKET = "s3://"
FILES_MAX = 100_000
FILE_BYTES_MAX = 4 << 30
QUIET_S = 5.0  # a file that changed more recently may still be written
_UNFINISHED = (".tmp", ".part", ".crdownload")
_HASHED_BYTES = 1 << 20


@dataclass(frozen=True)
class SourceFile:
    """A file. `name`: its path below the source; `size`: bytes; `changed_ns`: when it last changed."""

    name: str
    size: int
    changed_ns: int

    @property
    def state(self) -> int:
        """A number for size and time; it differs if the file may have changed."""
        return _number(f"{self.size} {self.changed_ns}".encode())


@dataclass(frozen=True)
class Listing:
    """A source's content: files to load by name, and how many are left for the next run."""

    files: list[SourceFile]
    waiting: int


class Source:
    """The files of one source.

    Args:
        address: an absolute folder, or `s3://BUCKET/FOLDER` in the stack's own store.
        suffixes: the extensions of the files to load.
    """

    def __init__(self, address: str, store: ObjectStore, suffixes: tuple[str, ...]) -> None:
        self.address = address.rstrip("/")
        self._suffixes = suffixes
        if address.startswith(BUCKET):
            self._files: Any = arrow_files(store, f"{self.address.removeprefix(BUCKET)}/")
        else:
            self._files = pa_fs.SubTreeFileSystem(self.address, pa_fs.LocalFileSystem())

    def listed(self, clock: Callable[[], float] = time.time) -> Listing:
        """List the files by name, without hidden and unfinished ones.

        Raises: HeadwaterError if there is no such folder, or it has more than FILES_MAX files.
        """
        selector = pa_fs.FileSelector("", recursive=True)
        try:
            found = [info for info in self._files.get_file_info(selector) if info.is_file]
        except FileNotFoundError as error:
            raise HeadwaterError(
                f"there is no folder {self.address}", hint="`source` is the folder of the files"
            ) from error
        if len(found) > FILES_MAX:
            raise HeadwaterError(
                f"{self.address} holds {len(found):,} files",
                hint=f"a source has at most {FILES_MAX:,}: move loaded files to another folder",
            )
        wanted = [info for info in found if self._counts(str(info.path))]
        ready = [info for info in wanted if clock() - info.mtime.timestamp() >= QUIET_S]
        files = sorted(
            (SourceFile(str(i.path), i.size, i.mtime_ns) for i in ready), key=lambda one: one.name
        )
        return Listing(files, len(wanted) - len(ready))

    def copy(self, file: SourceFile, target: Path) -> int:
        """Copy a file, so that the checked bytes are also those loaded; returns a number for its content.

        Raises: HeadwaterError for a file of more than FILE_BYTES_MAX; OSError.
        """
        if file.size > FILE_BYTES_MAX:
            raise HeadwaterError(
                f"{file.name} has {file.size >> 20:,} MB",
                hint=f"a file has at most {FILE_BYTES_MAX >> 20:,} MB: split it",
            )
        with self._files.open_input_stream(file.name, compression=None) as stream:
            with target.open("wb") as sink:
                shutil.copyfileobj(stream, sink, _HASHED_BYTES)
        digest = hashlib.sha256()
        with target.open("rb") as copied:
            while block := copied.read(_HASHED_BYTES):
                digest.update(block)
        return _number(digest.digest())

    def _counts(self, path: str) -> bool:
        parts = path.split("/")
        hidden = any(part.startswith((".", "_")) for part in parts)
        unfinished = path.endswith(_UNFINISHED)
        return not hidden and not unfinished and path.lower().endswith(self._suffixes)


def _number(content: bytes) -> int:
    """A number that identifies the content, with the 62 bits that fit into a Delta transaction's version."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 2
