"""Fetches locked files into the cache: only missing ones, a few at a time.

For each file, in order:
1. hold the file's own guard, which waits for another clone that is downloading it;
2. take it from the user's Maven cache if the checksum is right;
3. otherwise download into `<name>.part`, from the end of a previous attempt;
4. verify size and SHA-256, then rename: a file under its own name is always complete.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from app.artefacts.download import Cancelled, Download, sha256_of, size_of
from app.artefacts.download_progress import FetchProgress, Quiet
from app.artefacts.locking.cache import exclusive, file_path, make_folder
from app.artefacts.locking.lock import LockedFile
from app.artefacts.locking.repository import Repository
from app.errors import HeadwaterError

DOWNLOADS_AT_ONCE = 4
OTHER_CLONE_WAIT_S = 3_600.0
SPARE_BYTES = 500_000_000
_WAIT_STEP_S = 0.2


def missing_files(cache: Path, files: Sequence[LockedFile]) -> list[LockedFile]:
    """Return those of the files that the cache does not hold, each once."""
    # By path, not by content: two names may have the same bytes, and both are needed.
    unique = {file_path(cache, file): file for file in files}
    return [file for path, file in unique.items() if size_of(path) != file.size]


@dataclass
class Fetcher:
    """Fetches files from a repository into a cache.

    Args:
        maven_folder: the user's own Maven cache, or None to ignore it.
        backoff_s: pause after the first failed attempt at a file; it doubles with each further one.
    """

    cache: Path
    repository: Repository
    progress: FetchProgress = field(default_factory=Quiet)
    maven_folder: Path | None = None
    backoff_s: float = 1.0

    def fetch(self, files: Sequence[LockedFile]) -> None:
        """Make sure that all the files are in the cache.

        Raises HeadwaterError for the first file that cannot be fetched; downloaded files stay, and the next call
        continues from there.
        """
        missing = missing_files(self.cache, files)
        if not missing:
            return
        make_folder(self.cache)
        kept = sum(_kept(self.cache, file) for file in missing)
        size = sum(file.size for file in missing)
        _require_space(self.cache, size - kept)
        self.progress.start(files=len(missing), size=size, done=kept)
        try:
            # The largest first: it decides how long the whole takes.
            self._fetch_all(sorted(missing, key=lambda file: -file.size))
        finally:
            self.progress.finish()

    def _fetch_all(self, files: list[LockedFile]) -> None:
        cancelled = threading.Event()
        todo, ended = SimpleQueue[LockedFile](), SimpleQueue["BaseException | None"]()
        for file in files:
            todo.put(file)

        def work() -> None:
            while not cancelled.is_set():
                try:
                    self._fetch_one(todo.get_nowait(), cancelled)
                except Empty:
                    return
                except OSError as error:
                    ended.put(self._unwritable(error))
                except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                    ended.put(error)
                else:
                    ended.put(None)

        # Daemons: Ctrl-C does not wait for a silent server.
        for number in range(min(DOWNLOADS_AT_ONCE, len(files))):
            threading.Thread(target=work, name=f"fetch-{number}", daemon=True).start()
        try:
            for _ in files:
                error = ended.get()
                if error is not None:
                    raise error
        except BaseException:
            cancelled.set()
            raise

    def _fetch_one(self, file: LockedFile, cancelled: threading.Event) -> None:
        target, part = file_path(self.cache, file), _part(self.cache, file)
        make_folder(target.parent)
        position = _Position(self.progress, _kept(self.cache, file))
        give_up = time.monotonic() + OTHER_CLONE_WAIT_S

        def pause() -> None:
            position.move(min(size_of(part), file.size))
            if cancelled.wait(_WAIT_STEP_S):
                raise Cancelled
            if time.monotonic() > give_up:
                raise HeadwaterError(
                    f"another process fetches {file.coordinate} and does not finish",
                    detail=f"waited {OTHER_CLONE_WAIT_S:.0f} s for {part}",
                    hint="is another `headwater` stuck? end it and start again",
                )

        with exclusive(part.with_name(".guard"), pause):
            if size_of(target) != file.size:
                if not self._take_from_maven(file, part):
                    Download(
                        self.repository, file, part, position.move, cancelled, self.backoff_s
                    ).run()
                os.replace(part, target)
        position.move(file.size)

    def _unwritable(self, error: OSError) -> HeadwaterError:
        return HeadwaterError(
            f"cannot write the cache {self.cache}",
            detail=str(error),
            hint="is the disk full? HEADWATER_CACHE=FOLDER puts the cache elsewhere",
        )

    def _take_from_maven(self, file: LockedFile, part: Path) -> bool:
        if self.maven_folder is None:
            return False
        own = self.maven_folder / file.coordinate.path
        if size_of(own) != file.size:
            return False
        try:
            shutil.copyfile(own, part)
        except OSError:
            return False  # the download continues without this shortcut
        if sha256_of(part) == file.sha256:
            return True
        part.unlink()
        return False


class _Position:
    """Turns the position in one file into bytes that the progress adds up."""

    def __init__(self, progress: FetchProgress, start: int) -> None:
        self._progress = progress
        self._bytes = start

    def move(self, position: int) -> None:
        if position != self._bytes:
            self._progress.advance(position - self._bytes)
            self._bytes = position


def _part(cache: Path, file: LockedFile) -> Path:
    target = file_path(cache, file)
    return target.with_name(f"{target.name}.part")


def _kept(cache: Path, file: LockedFile) -> int:
    return min(size_of(_part(cache, file)), file.size)


def _require_space(cache: Path, size: int) -> None:
    free = shutil.disk_usage(cache).free
    if free < size + SPARE_BYTES:
        raise HeadwaterError(
            f"too little disk for the downloads: {free / 1e9:.1f} GB free under {cache}",
            detail=f"{size / 1e9:.1f} GB are to be fetched, {SPARE_BYTES / 1e9:.1f} GB stay free",
            hint="free some, or put the cache elsewhere with HEADWATER_CACHE=FOLDER",
        )
