"""Transactions in bronze in the form of connector and sink, for tests of their counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from app.counts.count_reader import Barrier, Counting, FolderBronze, Progress
from app.counts.tally import Miscount
from app.counts.transactions import COUNTED_HEADER
from spark_streaming.events.event import RawEvent
from tests.support.bronze import write

A, B = "hw.public.a", "hw.public.b"
TRANSACTIONS = "hw.transaction"
COUNTED = [(COUNTED_HEADER, b"1")]


@dataclass
class Chain:
    """A source's transactions in bronze: records by partition, in the sink's form."""

    folder: Path
    records: dict[tuple[str, int], list[RawEvent]] = field(default_factory=dict)
    put: dict[tuple[str, int], int] = field(default_factory=dict)
    commit: int = 100

    def add(
        self, topic: str, value: dict[str, Any] | None, partition: int = 0, headers: Any = ()
    ) -> None:
        gathered = self.records.setdefault((topic, partition), [])
        offset = gathered[-1].offset + 2 if gathered else 0  # a marker after each
        body = None if value is None else json.dumps(value, separators=(",", ":")).encode()
        gathered.append(RawEvent(topic, partition, offset, 1, b"{}", body, list(headers)))

    def event(self, topic: str, xid: int, number: int, *, partition: int = 0, lsn: int = 0) -> None:
        collection = topic.split(".", 1)[1]
        source = {"sequence": f'["{self.commit}","{lsn or self.commit + 1}"]', "txId": xid}
        block = {
            "id": f"{xid}:{lsn or self.commit + 1}",
            "total_order": number,
            "data_collection_order": number,
        }
        after = {"transaction": collection, "text": 'a "transaction":{"id":"7:7"} in a text'}
        self.add(
            topic,
            {"before": None, "after": after, "source": source, "transaction": block, "op": "c"},
            partition,
        )

    def end(self, xid: int, counts: dict[str, int], *, headers: Any = (), lsn: int = 0) -> None:
        self.commit = lsn or self.commit + 10
        found = [
            {"data_collection": topic.split(".", 1)[1], "event_count": count}
            for topic, count in counts.items()
        ]
        found.append({"data_collection": "io.debezium.Logical$Id@7acaec8b", "event_count": 1})
        record = {
            "status": "END",
            "id": f"{xid}:{self.commit}",
            "event_count": sum(counts.values()),
            "data_collections": found,
            "ts_ms": 1,
        }
        self.add(TRANSACTIONS, record, headers=headers)

    def begin(self, xid: int) -> None:
        record = {
            "status": "BEGIN",
            "id": f"{xid}:{self.commit + 1}",
            "event_count": None,
            "data_collections": None,
        }
        self.add(TRANSACTIONS, record)

    def transaction(self, xid: int, **counts: int) -> None:
        """`a=3` makes three events of table a."""
        self.begin(xid)
        for table, count in counts.items():
            for number in range(1, count + 1):
                self.event(f"hw.public.{table}", xid, number)
        counted = {f"hw.public.{table}": count for table, count in counts.items()}
        self.end(xid, counted, headers=COUNTED)

    def store(self, records_max: int = 3, *, but: Callable[[RawEvent], bool] | None = None) -> None:
        """Put the new records; `but` chooses records that get lost."""
        files = pafs.SubTreeFileSystem(str(self.folder), pafs.LocalFileSystem())
        for place, gathered in self.records.items():
            new = [r for r in gathered[self.put.get(place, 0) :] if but is None or not but(r)]
            write(files, new, records_max)
            self.put[place] = len(gathered)

    @property
    def barrier(self) -> Barrier:
        """Everything in bronze."""
        at = {place: len(found) for place, found in self.records.items() if found}
        last = self.records[(TRANSACTIONS, 0)][-1].offset + 1
        return Barrier(last, {p: n for p, n in at.items() if p[0] != TRANSACTIONS})

    def count(
        self, progress: Progress | None = None, barrier: Barrier | None = None
    ) -> list[Miscount]:
        """One complete pass."""
        counting = Counting(FolderBronze(self.folder), "hw", progress or Progress())
        return [wrong for some in counting.run(barrier or self.barrier) for wrong in some or ()]
