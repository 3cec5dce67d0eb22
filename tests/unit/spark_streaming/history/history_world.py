"""Bronze in a folder, and the histories that follow it: real Delta tables, no object store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs

from spark_streaming.contract.contract import Contract
from spark_streaming.events.event import RawEvent
from spark_streaming.history.history_pass import HistoryPass
from spark_streaming.ops.ledger import Restored
from spark_streaming.reading.bronze import Bronze
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.tables.silver_table import SilverTable, TableOptions
from tests.support.bronze import write
from tests.support.disk_lake import DiskLake
from tests.unit.debezium_events import TOPIC
from tests.unit.model import KEYED

OPTIONS = TableOptions()


class HistoryWorld:
    """The table `public.films`: its bronze, its contract file and its history."""

    def __init__(self, folder: Path, said: str, contract: Contract = KEYED) -> None:
        for name in ("bronze", "contracts"):
            (folder / name).mkdir()
        self.contract = contract
        self.lake = DiskLake(folder / "lake")
        self.files = pa_fs.SubTreeFileSystem(str(folder / "bronze"), pa_fs.LocalFileSystem())
        self.prefix = "hw"
        self.ends: dict[int, int] = {}
        self._contracts = folder / "contracts"
        self._commits = 0
        self.say(said)

    def say(self, text: str) -> None:
        """Write the contract file."""
        (self._contracts / "public.films.toml").write_text(text)

    def restore(self, prefix: str) -> None:
        """The lake is restored: from now on events come from topics of another prefix."""
        self.prefix = prefix
        self.ends, self._commits = {}, 0

    def put(self, events: Sequence[RawEvent]) -> None:
        """Put events into bronze; silver has merged them."""
        for partition in {event.partition for event in events}:
            some = [
                event._replace(topic=event.topic.replace("hw", self.prefix, 1))
                for event in events
                if event.partition == partition
            ]
            write(self.files, some, 7)
            self.ends[partition] = some[-1].offset + 1

    def commit(self, lsns: Sequence[int]) -> None:
        """Put the END records of transactions into bronze."""
        records = []
        for lsn in lsns:
            value = {"status": "END", "id": f"{700 + self._commits}:{lsn}", "ts_ms": lsn}
            body = json.dumps(value).encode()
            records.append(
                RawEvent(f"{self.prefix}.transaction", 0, self._commits, lsn, None, body, [])
            )
            self._commits += 1
        if records:
            write(self.files, records, 9)

    def process(self) -> HistoryPass:
        """A new process that follows bronze."""
        silver = SilverTable(self.lake, "films", self.contract, OPTIONS)
        return HistoryPass(
            self.lake,
            Bronze(self.files),
            self.prefix,
            lambda: [silver],
            ContractFolder([self._contracts], b"secret"),
            OPTIONS,
            Restored({TOPIC.replace("hw", self.prefix, 1): dict(self.ends)}),
        )

    def rows(self) -> list[dict[str, Any]]:
        """All rows of the history."""
        rows: list[dict[str, Any]] = self.lake.table("history/films").to_pyarrow_table().to_pylist()
        return rows

    def versions(self, *columns: str) -> list[tuple[Any, ...]]:
        """These columns of all rows, by key and in the order of the versions."""
        rows = self.rows()
        rows.sort(key=lambda r: (r["id"], r["_valid_from_lsn"], r["_lsn"]))
        return [tuple(row[name] for name in columns) for row in rows]
