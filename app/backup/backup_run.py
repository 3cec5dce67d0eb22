"""Makes a backup while the stack runs; a second run into the same place copies only what is new.

1. List the buckets (`buckets.py`), leave out what the place already has.
2. Copy the rest; every PART objects a list of them is noted, so an interrupted run continues.
3. If an object vanished meanwhile, do 1 and 2 again.
4. Store the list and the home's own files, then replace the manifest: now this is the backup.
5. Remove contents that only the previous backup had.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Protocol

from app.backup.buckets import Buckets, Listed, tag_of
from app.backup.home_files import VARIABLE, pack_home
from app.backup.manifest import FORMAT, Copied, Manifest, packed, unpacked
from app.backup.target import Target
from app.environment.stamp import version
from app.errors import HeadwaterError

PART = 100
THREADS = 4
PASSES_MAX = 5


class Progress(Protocol):
    """The output for users."""

    def waiting(self, text: str) -> None: ...


@dataclass(frozen=True)
class Result:
    """A backup's manifest, and what this run has copied."""

    manifest: Manifest
    copied: int
    copied_bytes: int


def back_up(
    home: Path, buckets: Buckets, target: Target, passphrase: str, progress: Progress
) -> Result:
    """Make a backup of a home and its buckets, or bring the one in this place up to date.

    Raises: HeadwaterError.
    """
    if target.is_remote and not passphrase:
        raise HeadwaterError(
            "a backup in a bucket needs a passphrase, because it holds the home's secrets",
            hint=f"set {VARIABLE}, and keep it elsewhere; or back up into a folder",
        )
    with _only_one(home), _private_files():
        return _Run(buckets, target, progress).made(home, passphrase)


class _Run:
    def __init__(self, buckets: Buckets, target: Target, progress: Progress) -> None:
        self._buckets = buckets
        self._target = target
        self._progress = progress
        self._have = target.contents()
        self._known = {one.place: one for one in self._earlier()}
        self._copied, self._bytes = 0, 0

    def _earlier(self) -> Iterator[Copied]:
        manifest = self._target.manifest()
        lists = [self._target.read(manifest.list_sha256)] if manifest else []
        for content in [*lists, *self._target.unfinished()]:
            yield from unpacked(content)

    def made(self, home: Path, passphrase: str) -> Result:
        for _ in range(PASSES_MAX):
            made_at = datetime.now(timezone.utc)
            listing = self._buckets.listing()
            if self._copy([one for one in listing if not self._is_there(one)], len(listing)):
                break
        else:
            raise HeadwaterError(
                f"objects vanished from the lake while they were copied, {PASSES_MAX} times in a row",
                detail="tables are vacuumed faster than they are copied",
                hint="run it again: what was copied stays. A larger `silver_retention_minutes` keeps files "
                "for longer",
            )
        entries = [self._known[one.role, one.key] for one in listing]
        manifest = Manifest(
            FORMAT,
            uuid.uuid4().hex,
            made_at.isoformat(timespec="seconds"),
            version(),
            len(entries),
            sum(one.size for one in entries),
            self._target.put(packed(entries)),
            self._target.put(pack_home(home, passphrase)),
            bool(passphrase),
        )
        self._target.replace_manifest(manifest)
        self._target.forget_unfinished()
        needed = {one.sha256 for one in entries} | {manifest.list_sha256, manifest.home_sha256}
        self._target.remove_contents({name for name, _ in self._target.contents()} - needed)
        return Result(manifest, self._copied, self._bytes)

    def _is_there(self, one: Listed) -> bool:
        known = self._known.get((one.role, one.key))
        if known is None or (known.size, known.seen) != (one.size, one.seen):
            return False
        return (known.sha256, known.size) in self._have

    def _copy(self, missing: list[Listed], total: int) -> bool:
        """Copy objects. Returns: False if one of them was deleted before it was copied."""
        left, all_there, done = iter(missing), True, total - len(missing)
        with ThreadPoolExecutor(THREADS) as pool:
            while part := list(islice(left, PART)):
                found = [one for one in pool.map(self._copied_one, part) if one is not None]
                all_there = all_there and len(found) == len(part)
                self._known |= {one.place: one for one in found}
                self._have |= {(one.sha256, one.size) for one in found}
                self._target.note_unfinished(uuid.uuid4().hex, packed(found))
                done += len(part)
                self._copied += len(found)
                self._bytes += sum(one.size for one in found)
                self._progress.waiting(
                    f"{done:,} of {total:,} objects, {self._bytes / 1e6:,.0f} MB copied"
                )
        return all_there

    def _copied_one(self, one: Listed) -> Copied | None:
        try:
            answer = self._buckets.get(one)
            name, size = self._target.put_stream(answer.stream(), self._have)
        except FileNotFoundError:
            return None
        attributes = {str(key): str(value) for key, value in answer.attributes.items()}
        return Copied(one.role, one.key, size, tag_of(answer.meta), name, attributes)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    with open(home / "backup.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeadwaterError(
                "another backup of this home is running", hint="let it end, or press Ctrl-C there"
            ) from None
        yield


@contextmanager
def _private_files() -> Iterator[None]:
    before = os.umask(0o077)  # the copies hold rows and secrets
    try:
        yield
    finally:
        os.umask(before)
