"""The cache outside the clone: where fetched files and built folders stand, shared by all clones.

artefacts/<first 16 hex digits of the SHA-256>/<file name>    as fetched, checksum verified
dist/<group>-<hash>/                                          unpacked, compiled, or linked
aot/<service>-<hash>.aot                                      what JVMs learned; see `aot`
poms/                                                         only for maintainers, see `resolve`
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.launcher.errors import HeadwaterError
from app.launcher.lock import LockedFile

SCRATCH_KEPT_S = 86_400.0


def default_cache() -> Path:
    """`HEADWATER_CACHE`, else `headwater` in the user's cache folder."""
    chosen = os.environ.get("HEADWATER_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headwater"


def file_path(cache: Path, file: LockedFile) -> Path:
    """Where a fetched file stands; a file that stands there has been verified."""
    return cache / "artefacts" / file.sha256[:16] / file.coordinate.filename


@contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """A new empty folder on the cache's file system, removed at the end.

    Those that a killed process left are removed a day later.
    """
    folder = cache / "scratch"
    make_folder(folder)
    for left in folder.iterdir():
        with suppress(FileNotFoundError):  # another process may be as tidy
            if time.time() - left.stat().st_mtime > SCRATCH_KEPT_S:
                shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def exclusive(guard: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the file `guard` against other processes and threads.

    `wait` is called between tries while another holds it: it pauses, and raises to give up. The
    kernel frees the guard of a process that dies.
    """
    make_folder(guard.parent)
    with open(guard, "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                wait()
        yield


def make_folder(path: Path) -> None:
    """Make a folder of the cache; HeadwaterError where the cache cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HeadwaterError(
            f"cannot write the cache folder {path}",
            detail=str(error),
            hint="put the cache elsewhere with HEADWATER_CACHE=FOLDER",
        ) from error
