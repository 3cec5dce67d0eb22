"""Where a backup is: a folder, or a bucket's folder in an S3 store.

manifest.json        the head of the newest whole backup
objects/ab/abcd…     contents, named by their SHA-256
unfinished/…         lists of objects that an unfinished run has copied
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import obstore
from obstore.exceptions import BaseError

from app.backup.manifest import Manifest, damaged
from app.errors import HeadwaterError
from spark_streaming.storage.s3_request import store_cause

MANIFEST = "manifest.json"
UNFINISHED = "unfinished"
# Larger objects wait in a temporary file, because their name is known only at their end.
IN_MEMORY_BYTES_MAX = 16 << 20


class Target:
    """One backup's place.

    Args:
        place: a folder, or s3://bucket/folder; its address and keys come from the variables AWS_*.
        home: the home to back up; then a missing folder is made, and it must be outside of the home.

    Raises: HeadwaterError if no backup can be there.
    """

    def __init__(self, place: str, *, home: Path | None = None) -> None:
        self.place = place
        self.is_remote = "://" in place
        self._store: Any = _remote(place) if self.is_remote else _folder(place, home)

    def manifest(self) -> Manifest | None:
        """Read the head of the newest whole backup; None if there is none. Raises: HeadwaterError."""
        try:
            with self._asked():
                content = bytes(obstore.get(self._store, MANIFEST).bytes())
        except FileNotFoundError:
            return None
        return Manifest.from_bytes(content, self.place)

    def replace_manifest(self, manifest: Manifest) -> None:
        self._put(MANIFEST, manifest.to_bytes())

    def put(self, content: bytes) -> str:
        """Store a small content; return its checksum."""
        name = sha256(content).hexdigest()
        self._put(_path(name), content)
        return name

    def put_stream(self, chunks: Iterable[Any], have: set[tuple[str, int]]) -> tuple[str, int]:
        """Store a content, unless it is among those that it has; return its checksum and its bytes."""
        found, size = sha256(), 0
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES_MAX) as file:
            for chunk in chunks:
                file.write(chunk)
                found.update(chunk)
                size += len(chunk)
            name = found.hexdigest()
            if (name, size) not in have:
                file.seek(0)
                self._put(_path(name), file)
        return name, size

    def read(self, name: str) -> bytes:
        """Read a small content. Raises: HeadwaterError if it is damaged."""
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a content in pieces. Raises: HeadwaterError at its end if it is damaged."""
        found = sha256()
        try:
            with self._asked():
                for chunk in obstore.get(self._store, _path(name)).stream():
                    found.update(chunk)
                    yield bytes(chunk)
        except FileNotFoundError:
            raise damaged(self.place, f"{_path(name)} is missing") from None
        if found.hexdigest() != name:
            raise damaged(self.place, f"{_path(name)} does not have the checksum in its name")

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """Open a content as a file, after its checksum was compared. Raises: HeadwaterError."""
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES_MAX) as file:
            for chunk in self.chunks(name):
                file.write(chunk)
            file.seek(0)
            yield file

    def contents(self) -> set[tuple[str, int]]:
        """Return the name and the size of each stored content."""
        return {(one["path"].rpartition("/")[2], one["size"]) for one in self._list("objects")}

    def remove_contents(self, names: Iterable[str]) -> None:
        self._delete(_path(name) for name in names)

    def unfinished(self) -> list[bytes]:
        """Return the lists that an unfinished run has left."""
        with self._asked():
            return [bytes(obstore.get(self._store, path).bytes()) for path in self._unfinished()]

    def note_unfinished(self, name: str, content: bytes) -> None:
        self._put(f"{UNFINISHED}/{name}", content)

    def forget_unfinished(self) -> None:
        self._delete(self._unfinished())

    def _unfinished(self) -> list[str]:
        return [one["path"] for one in self._list(UNFINISHED)]

    def _put(self, path: str, content: Any) -> None:
        with self._asked():
            obstore.put(self._store, path, content)

    def _list(self, folder: str) -> list[Any]:
        with self._asked():
            return [one for page in obstore.list(self._store, folder) for one in page]

    def _delete(self, paths: Iterable[str]) -> None:
        with self._asked():
            for path in paths:
                obstore.delete(self._store, path)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn errors of the store into HeadwaterError, except FileNotFoundError for a missing object."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            way = (
                "the bucket's name and the variables AWS_*"
                if self.is_remote
                else "the folder's disk and rights"
            )
            raise HeadwaterError(
                f"the backup's place {self.place} cannot be used",
                detail=store_cause(error),
                hint=f"check {way}",
            ) from error


def _path(name: str) -> str:
    return f"objects/{name[:2]}/{name}"


def _folder(place: str, home: Path | None) -> Any:
    from obstore.store import LocalStore

    folder = Path(place).expanduser().resolve()
    if home is not None:
        if folder.is_relative_to(home.resolve()):
            raise HeadwaterError(
                f"the folder {folder} is in the home {home}, so it would be lost together with it",
                hint="give a folder elsewhere, best on another disk",
            )
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise HeadwaterError(
                f"cannot make the folder {folder}", detail=str(error), hint="give another folder"
            ) from error
        if not (folder / MANIFEST).exists() and {one.name for one in folder.iterdir()} - {
            "objects",
            UNFINISHED,
        }:
            raise HeadwaterError(
                f"the folder {folder} holds other files, so no backup is made in it",
                hint="give an empty folder, or one with an earlier backup",
            )
        folder.chmod(0o700)
    elif not folder.is_dir():
        raise HeadwaterError(f"there is no folder {folder}", hint="give a backup's folder")
    return LocalStore(folder)


def _remote(place: str) -> Any:
    from obstore.store import S3Store

    if not place.startswith("s3://"):
        raise HeadwaterError(
            f"a backup cannot be at {place}", hint="give a folder, or s3://bucket/folder"
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    plain: Any = {"allow_http": True} if endpoint.startswith("http://") else {}
    return S3Store.from_url(place, client_options=plain)
