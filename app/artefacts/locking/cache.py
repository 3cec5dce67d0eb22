"""The cache outside the clone, shared by all clones: fetched files and built folders.

artefacts/<first 16 hex digits of the SHA-256>/<file name>    as fetched, checksum verified
dist/<group>-<hash>/                                          unpacked, compiled, or linked
aot/<service>-<hash>.aot                                      caches recorded by JVMs; see `app/launcher/aot.py`
poms/                                                         only for maintainers, see `resolve`
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.artefacts.locking.lock import LockedFile
from app.environment.machine_checks import UnsuitableMachine, cache_folder
from app.errors import HeadwaterError

SCRATCH_KEPT_S = 86_400.0


def default_cache() -> Path:
    """Return the cache in which `./headwater` made this environment: `machine_checks.cache_folder`."""
    try:
        return cache_folder()
    except UnsuitableMachine as error:
        raise HeadwaterError(error.message, hint=error.hint) from error


def file_path(cache: Path, file: LockedFile) -> Path:
    """Return the path of a fetched file; a file at this path has been verified."""
    return cache / "artefacts" / file.sha256[:16] / file.coordinate.filename


@contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """A new empty folder on the cache's file system, removed at the end.

    Those that a killed process left are removed a day later.
    """
    folder = cache / "scratch"
    make_folder(folder)
    for left in folder.iterdir():
        with suppress(FileNotFoundError):  # another process removed it
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

    `wait` is called between attempts while another process holds it: it pauses, or raises to give up.
    The kernel frees the guard of a process that dies.
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
    """Make a folder of the cache; HeadwaterError if the cache cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HeadwaterError(
            f"cannot write the cache folder {path}",
            detail=str(error),
            hint="put the cache elsewhere with HEADWATER_CACHE=FOLDER",
        ) from error
