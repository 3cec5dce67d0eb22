"""The receipt of an erasure: what was found and removed, where, and what remains until when. It never has the key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.printing import Format, print_object, print_rows
from spark_streaming.contract.lsn import Lsn, lsn_text
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.small_table import SmallTable

PATH = "ops/erasures"
COLUMNS = ("store", "what", "found", "removed", "detail")
_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("table_name", pa.string()),
        ("source_table", pa.string()),
        ("key_digest", pa.string()),
        ("asked_by", pa.string()),
        ("asked_at", _TIME),
        ("finished_at", _TIME),
        ("events", pa.int64()),
        ("removed", pa.string()),
        ("positions", pa.string()),
        ("remains", pa.string()),
        ("not_touched", pa.string()),
    ]
)
# Receipts stay for good; compaction only joins their files.
RETENTION = timedelta(days=365 * 100)


@dataclass(frozen=True)
class Share:
    """What one store had, and what was removed from it; `detail` says how."""

    store: str
    what: str
    found: int
    removed: int
    detail: str = ""


@dataclass(frozen=True)
class Remainder:
    """What may still hold data of the row, and until when."""

    where: str
    what: str
    until: str


@dataclass(frozen=True)
class Receipt:
    """One erasure, or (`dry_run`) what it would remove.

    Args:
        id: "" if there was nothing to erase.
        offsets: partition → offsets of the erased events in the topic.
        lsns: the first and last position of the erased events; None without events.
    """

    id: str
    table: str
    source: str
    topic: str
    digest: str
    asked_by: str
    asked_at: str
    finished_at: str
    dry_run: bool
    shares: Sequence[Share] = ()
    offsets: dict[int, list[int]] = field(default_factory=dict)
    lsns: tuple[int, int] | None = None
    remains: Sequence[Remainder] = ()
    not_touched: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no store had anything of the row."""
        return not any(share.found for share in self.shares)

    @property
    def events(self) -> int:
        return sum(len(some) for some in self.offsets.values())

    def document(self) -> dict[str, Any]:
        """Return the whole receipt as JSON has it."""
        return {
            "id": self.id or None,
            "table": self.table,
            "source_table": self.source,
            "key_digest": self.digest,
            "asked_by": self.asked_by,
            "asked_at": self.asked_at,
            "finished_at": self.finished_at,
            "dry_run": self.dry_run,
            "stores": [asdict(share) for share in self.shares],
            "positions": self.positions(),
            "remains": [asdict(one) for one in self.remains],
            "not_touched": list(self.not_touched),
        }

    def positions(self) -> dict[str, Any]:
        """Return where the erased events were: LSNs as Postgres writes them, offsets by partition."""
        return {
            "lsn": [lsn_text(Lsn(one)) for one in self.lsns] if self.lsns else None,
            "topic": self.topic,
            "offsets": {str(partition): some for partition, some in self.offsets.items()},
        }


def print_receipt(receipt: Receipt, fmt: str) -> None:
    """Print a receipt on stdout: JSON has all of it, `table` and `csv` a row for each store."""
    if Format(fmt) is Format.json:
        print_object(receipt.document(), fmt)
        return
    rows = [(s.store, s.what, s.found, s.removed, s.detail) for s in receipt.shares]
    print_rows(COLUMNS, rows, fmt)


class Receipts:
    """The Delta table `ops/erasures`; any number of commands may append.

    Args:
        lake: the lake's addresses and storage options.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._table = SmallTable(lake, PATH, SCHEMA)

    def add(self, receipt: Receipt) -> None:
        """Append a receipt, unless the table has it already. Raises: DeltaError, OSError."""
        there = self._table.open().to_pyarrow_dataset()
        if there.count_rows(filter=pc.field("id") == receipt.id):
            return
        row = {
            "id": receipt.id,
            "table_name": receipt.table,
            "source_table": receipt.source,
            "key_digest": receipt.digest,
            "asked_by": receipt.asked_by,
            "asked_at": datetime.fromisoformat(receipt.asked_at),
            "finished_at": datetime.fromisoformat(receipt.finished_at),
            "events": receipt.events,
            "removed": json.dumps([asdict(share) for share in receipt.shares]),
            "positions": json.dumps(receipt.positions()),
            "remains": json.dumps([asdict(one) for one in receipt.remains]),
            "not_touched": json.dumps(list(receipt.not_touched)),
        }
        rows = pa.Table.from_pylist([row], schema=SCHEMA)
        self._table.append(rows, time_column="finished_at", retention=RETENTION)
