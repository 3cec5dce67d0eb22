"""Replays a table's events one row at a time into a file, to find its rows in a second way.

It decodes events as silver does. Unlike silver it does not fold, merge or cut into slices: each
change is applied alone, in stream order, to rows in SQLite.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from app.compare.digest import Row
from spark_streaming.contract.canonical import column_texts
from spark_streaming.contract.contract import Contract
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import Change, Changes, RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.events.resync_events import is_resync_end

CACHE_KIB = 32_768


class ReplayedRows:
    """The rows of one table while its events are replayed; a context that removes its file.

    Args:
        folder: of the file.
        treatment: applies the contract file's masks to decoded changes.
    """

    def __init__(
        self, contract: Contract, folder: Path, treatment: Callable[[Changes], Changes]
    ) -> None:
        self._contract = contract
        self._treatment = treatment
        self._folder = folder
        self._high_water = HighWater()
        self.events = 0

    def __enter__(self) -> ReplayedRows:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._own = Path(tempfile.mkdtemp(prefix="replay-", dir=self._folder))
        self._base = sqlite3.connect(self._own / "rows", isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
            self._base.execute(f"PRAGMA {setting}")
        # A deleted row stays with alive = 0, because a row whose key changed takes large values
        # from it.
        self._base.execute("CREATE TABLE row (key TEXT, lsn INT, texts TEXT, alive INT)")
        self._base.execute("CREATE INDEX by_key ON row (key)")
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        shutil.rmtree(self._own, ignore_errors=True)

    def add(self, events: list[RawEvent]) -> None:
        """Apply the next events, in the order in which they are to be read."""
        # A resync removes the rows from before its end.
        for _, some in groupby(_numbered(events), key=lambda pair: pair[0]):
            self._add([event for _, event in some])
        self.events += len(events)

    def rows(self) -> Iterator[Row]:
        """Yield the rows as canonical texts in the contract's column order."""
        for (texts,) in self._base.execute("SELECT texts FROM row WHERE alive"):
            yield tuple(json.loads(texts))

    def _add(self, events: list[RawEvent]) -> None:
        decoded = decode(events, self._contract, self._high_water)
        self._high_water = self._high_water.merge(decoded.high_water)
        changes = self._treatment(decoded.changes)
        self._base.execute("BEGIN")
        if changes.first_snapshot_lsn is not None:
            self._remove_below(changes.first_snapshot_lsn)
        images = changes.images.combine_chunks()
        columns = [column_texts(images[c.name], c) for c in self._contract.columns]
        texts: list[list[str | None]] = [[] for _ in range(images.num_rows)]
        if columns:
            texts = [list(row) for row in zip(*columns, strict=True)]
        for change in sorted(changes.changes, key=attrgetter("order")):
            if change.op == "t":
                self._remove_below(change.lsn)
            elif self._contract.is_keyless:
                self._apply_to_copies(change, texts)
            else:
                self._apply(change, texts, changes.gaps.get(change.after, ()))
        if changes.resync_lsn is not None:
            self._remove_below(changes.resync_lsn)
        self._base.execute("COMMIT")

    def _apply(self, change: Change, texts: list[list[str | None]], gaps: tuple[int, ...]) -> None:
        key = repr(change.key)
        lsn, row, alive = self._found(key)
        if alive and change.guard < lsn:
            return
        if change.op == "d":
            self._base.execute("UPDATE row SET alive = 0 WHERE key = ?", [key])
            return
        before = row
        if change.old_key is not None and change.old_key != change.key:
            old_key = repr(change.old_key)
            _, before, _ = self._found(old_key)
            self._base.execute("UPDATE row SET alive = 0 WHERE key = ?", [old_key])
        after = list(texts[change.after])
        for column in gaps:
            after[column] = before[column] if before else None
        self._base.execute("DELETE FROM row WHERE key = ?", [key])
        self._insert(key, change, after)

    def _apply_to_copies(self, change: Change, texts: list[list[str | None]]) -> None:
        if change.starts_snapshot:
            self._remove_below(change.lsn)
        if change.before >= 0:
            self._base.execute(
                "DELETE FROM row WHERE rowid = "
                "(SELECT rowid FROM row WHERE key = ? ORDER BY lsn LIMIT 1)",
                [json.dumps(texts[change.before])],
            )
        if change.after >= 0:
            after = texts[change.after]
            self._insert(json.dumps(after), change, after)

    def _found(self, key: str) -> tuple[int, list[str | None], bool]:
        found = self._base.execute("SELECT lsn, texts, alive FROM row WHERE key = ?", [key])
        one: Any = found.fetchone()
        return (0, [], False) if one is None else (one[0], json.loads(one[1]), bool(one[2]))

    def _insert(self, key: str, change: Change, texts: list[str | None]) -> None:
        values = [key, change.lsn, json.dumps(texts)]
        self._base.execute("INSERT INTO row VALUES (?, ?, ?, 1)", values)

    def _remove_below(self, lsn: int) -> None:
        self._base.execute("DELETE FROM row WHERE lsn < ?", [lsn])


def _numbered(events: list[RawEvent]) -> Iterator[tuple[int, RawEvent]]:
    """Yield each event with the number of resyncs that ended before it."""
    number = 0
    for event in events:
        yield number, event
        number += is_resync_end(event)
