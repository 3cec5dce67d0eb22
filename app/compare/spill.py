"""Cancels equal row digests of two sides on disk and yields the others."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

CACHE_KIB = 32_768


class Spill:
    """A temporary SQLite file in `folder`, removed when the context ends.

    SQLite sorts and groups in CACHE_KIB of memory, whatever the number of rows.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Spill:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._own = Path(tempfile.mkdtemp(prefix="compare-", dir=self._folder))
        # On many machines /tmp is memory. SQLite reads this variable at each sort.
        self._before = os.environ.get("SQLITE_TMPDIR")
        os.environ["SQLITE_TMPDIR"] = str(self._own)
        self._base = sqlite3.connect(self._own / "digests", isolation_level=None)
        for setting in (
            "journal_mode = OFF",  # nobody reads the file after a crash
            "synchronous = OFF",
            "temp_store = FILE",
            f"cache_size = -{CACHE_KIB}",
        ):
            self._base.execute(f"PRAGMA {setting}")
        self._base.execute("CREATE TABLE digest (key BLOB, row BLOB, side INT)")
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        if self._before is None:
            os.environ.pop("SQLITE_TMPDIR", None)
        else:
            os.environ["SQLITE_TMPDIR"] = self._before
        shutil.rmtree(self._own, ignore_errors=True)

    def add(self, digests: Iterable[tuple[bytes, bytes]], side: int) -> None:
        """Add (key digest, row digest) pairs of one side: 1 is the source, -1 silver."""
        self._base.execute("BEGIN")
        self._base.executemany(
            "INSERT INTO digest VALUES (?, ?, ?)", ((key, row, side) for key, row in digests)
        )
        self._base.execute("COMMIT")

    def remainder(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield (key digest, rows only in the source, rows only in silver), ordered by key.

        A row that both sides have equally often is left out.
        """
        yield from self._base.execute(
            "SELECT key, sum(max(n, 0)), sum(max(-n, 0)) FROM "
            "(SELECT key, row, sum(side) AS n FROM digest GROUP BY key, row HAVING sum(side) <> 0) "
            "GROUP BY key ORDER BY key"
        )
