"""Finds and removes files that no clone and no running stack needs, in the cache and in a stopped home.

1. Files that clones have claimed (`cache_claims`), and files that a running process has open or names, are needed.
2. The rest of `artefacts`, `dist` and `venv` is waste; so are AOT caches and scratch folders that have
   not been used for some time.
3. Waste is moved to another name before it is removed, so that an interrupted removal leaves no half
   folder under the name that counts.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.artefacts.locking.cache import SCRATCH_KEPT_S, make_folder
from app.errors import HeadwaterError
from app.processes.process import all_pids

# An environment younger than this may still be in the making, and not claimed yet.
ENVIRONMENT_KEPT_S = 3_600.0
AOT_KEPT_S = 30 * 86_400.0
KINDS = {"artefacts": "downloads", "dist": "programs", "venv": "Python environments"}


@dataclass(frozen=True)
class Waste:
    """A file or folder that nobody needs. `kind` is its name for users."""

    kind: str
    path: Path


def find_waste(cache: Path, needed: set[str], now: float | None = None) -> list[Waste]:
    """Return the files of the cache that are neither in `needed` (relative paths) nor used by processes."""
    now = time.time() if now is None else now
    used = needed | in_use(cache)
    found = [
        Waste(kind, path)
        for folder, kind in KINDS.items()
        for path in _entries(cache / folder)
        if f"{folder}/{path.name}" not in used and not _is_recent(path, folder, now)
    ]
    for path in _entries(cache / "aot", hidden=True):
        if f"aot/{path.name}" not in used and now - path.stat().st_mtime > AOT_KEPT_S:
            found.append(Waste("AOT caches", path))
    for path in _entries(cache / "scratch", hidden=True):
        if now - path.stat().st_mtime > SCRATCH_KEPT_S:
            found.append(Waste("scratch", path))
    return found


def waste_of_home(home: Path, shelter: Path, needed: set[str]) -> list[Waste]:
    """Return the temporary files of a stopped home's services, and old copies of programs for them."""
    temporary = [
        path for run in _entries(home / "run") for path in _entries(run / "tmp", hidden=True)
    ]
    copies = [path for path in _entries(shelter / "dist") if f"dist/{path.name}" not in needed]
    return [Waste("this stack's temporary files", path) for path in [*temporary, *copies]]


def in_use(cache: Path) -> set[str]:
    """Return the entries of the cache (`FOLDER/NAME`) that a running process has open or names."""
    roots = b"|".join({re.escape(os.fsencode(path)) for path in (cache, cache.resolve())})
    entry = re.compile(b'(?:%b)/(artefacts|dist|venv|aot)/([^/\0\n :,"]+)' % roots)
    found: set[str] = set()
    for pid in all_pids():
        for name in ("cmdline", "environ", "maps"):
            with suppress(OSError):  # it has ended, or belongs to another user
                text = Path(f"/proc/{pid}/{name}").read_bytes()
                found |= {f"{a.decode()}/{os.fsdecode(b)}" for a, b in entry.findall(text)}
    return found


def freed_bytes(waste: Iterable[Waste]) -> dict[str, int]:
    """Return kind → bytes that its removal frees; a file with another hard link frees none."""
    links: dict[tuple[int, int], int] = {}
    freed: dict[str, int] = {}
    for one in waste:
        freed.setdefault(one.kind, 0)
        for path in _tree(one.path):
            try:
                info = path.lstat()
            except FileNotFoundError:
                continue
            key = (info.st_dev, info.st_ino)
            links[key] = links.get(key, 0) + 1
            if (path.is_dir() and not path.is_symlink()) or links[key] == info.st_nlink:
                freed[one.kind] += info.st_blocks * 512
    return freed


def remove(cache: Path, waste: Iterable[Waste]) -> None:
    """Remove waste; HeadwaterError for the first entry that failed, after all others are removed."""
    failed: OSError | None = None
    make_folder(cache / "scratch")
    for one in waste:
        try:
            if one.path.is_relative_to(cache):
                aside = Path(tempfile.mkdtemp(dir=cache / "scratch"))
                os.replace(one.path, aside / one.path.name)
                shutil.rmtree(aside)
            elif one.path.is_dir() and not one.path.is_symlink():
                shutil.rmtree(one.path)
            else:
                one.path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise HeadwaterError(
            "not everything could be removed",
            detail=str(failed),
            hint="run it as the user who owns the cache",
        )


def _is_recent(path: Path, folder: str, now: float) -> bool:
    if folder != "venv":
        return False
    times = [path.stat().st_mtime, *(mark.stat().st_mtime for mark in path.glob(".complete-*"))]
    return now - max(times) < ENVIRONMENT_KEPT_S


def _entries(folder: Path, *, hidden: bool = False) -> list[Path]:
    """The entries of a folder; with `hidden` also guards and temporary names, which begin with a dot."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if hidden or not path.name.startswith("."))


def _tree(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        yield from path.rglob("*")
