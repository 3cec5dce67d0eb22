"""Claims: the files of the shared cache that each clone needs; the clone writes them, and `clean` reads them.

clones/<hash of the clone's path>-py<version>.json     {"root": …, "needs": ["dist/kafka-…", …]}

A clone writes its claim before it checks what is missing, and holds `.clean.lock` shared until all files are there;
`clean` holds the lock exclusively from reading the claims to the last removal.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.artefacts.locking.cache import make_folder
from app.errors import HeadwaterError

# A clone's claim under another Python is ignored after this time without a start.
OWN_OTHER_PYTHON_KEPT_S = 30 * 86_400.0
WAIT_S = 120.0
_STEP_S = 0.1


def claim(cache: Path, root: Path, needs: Iterable[str]) -> None:
    """Write the files that the clone at `root` needs, as paths relative to the cache; replaces its last claim."""
    path = _path(cache, root)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"root": str(root), "needs": sorted(needs)}), encoding="utf-8")
    os.replace(temporary, path)


def claimed(cache: Path, root: Path, now: float | None = None) -> set[str]:
    """Return the files that existing clones need; remove the claims of deleted clones.

    Args:
        root: the clone that asks: of its own claims under other Pythons only recent ones count.
    """
    oldest = (time.time() if now is None else now) - OWN_OTHER_PYTHON_KEPT_S
    needed: set[str] = set()
    for path in sorted((cache / "clones").glob("*.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            owner, needs = Path(found["root"]), [str(name) for name in found["needs"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HeadwaterError(
                f"cannot read what a clone needs of the cache: {path}",
                detail=f"{type(error).__name__}: {error}",
                hint="remove the file: the clone writes it again at its next `up`",
            ) from error
        if (owner == root and path != _path(cache, root) and path.stat().st_mtime < oldest) or not (
            owner / "artefacts.lock"
        ).is_file():
            path.unlink(missing_ok=True)
        else:
            needed |= set(needs)
    return needed


@contextmanager
def fetching(cache: Path) -> Iterator[None]:
    """Prevent `clean` from running while the block checks and downloads a clone's files."""
    with _locked(cache, fcntl.LOCK_SH, "`clean` is removing files from the cache"):
        yield


@contextmanager
def cleaning(cache: Path) -> Iterator[None]:
    """Use the cache alone; HeadwaterError if another process fetches for too long."""
    with _locked(cache, fcntl.LOCK_EX, "another `headwater` is fetching into the cache"):
        yield


def _path(cache: Path, root: Path) -> Path:
    digest = hashlib.sha256(str(root).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return cache / "clones" / f"{digest}-py{sys.version_info[0]}.{sys.version_info[1]}.json"


@contextmanager
def _locked(cache: Path, how: int, otherwise: str) -> Iterator[None]:
    make_folder(cache)
    give_up = time.monotonic() + WAIT_S
    with open(cache / ".clean.lock", "a") as file:
        while True:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise HeadwaterError(
                        f"{otherwise}: {cache}",
                        detail=f"waited {WAIT_S:.0f} s",
                        hint="let it end, then try again",
                    ) from None
                time.sleep(_STEP_S)
        yield
