"""Reads silver's information about a traced row.

That is its batches in the ledger, its Delta versions and files, its entries in quarantine, the row
in the table now, and Trino's answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import and_
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from app.catalog.lake_catalog import identifier
from app.query.trino_connection import connect, explain
from app.trace.trace_key import RowKey
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import Place
from spark_streaming.fold.row_lookup import one_of
from spark_streaming.ops.ledger import WHOLE_BATCH, offsets_of
from spark_streaming.quarantine.quarantine import OPEN
from spark_streaming.quarantine.raw_events import with_events
from spark_streaming.storage.lake import LEDGER, QUARANTINE, Lake

_LEDGER_COLUMNS = ["table_name", "batch_id", "delta_version", "merged_at", "offsets"]
_QUARANTINE_COLUMNS = ["rule", "reason", "status", "replayed_values"]


class Batch(NamedTuple):
    """The batch that passed an event; `delta_version` is None if it merged nothing of the table."""

    batch_id: int
    delta_version: int | None
    merged_at: datetime


@dataclass(frozen=True)
class Batches:
    """A table's batches that the ledger still has, the oldest first.

    Args:
        rows: (batch, topic -> partition -> next offset).
        from_start: whether the ledger still has the very first batch.
    """

    rows: Sequence[tuple[Batch, Mapping[str, Mapping[int, int]]]] = ()
    from_start: bool = False

    def of(self, topic: str, partition: int, offset: int) -> Batch | None:
        """Return the batch that merged an event; None if none has, or the ledger has dropped it.

        The event's offset is between the ends of two successive batches of the table; the second
        one merged it. A rebuild sets offsets back, so the last such pair counts.
        """
        merging = None
        previous = 0 if self.from_start else None
        for batch, offsets in self.rows:
            end = offsets.get(topic, {}).get(partition)
            if end is None:
                continue
            if previous is not None and previous <= offset < end:
                merging = batch
            previous = end
        return merging

    def merged_to(self, topic: str) -> dict[int, int]:
        """Return partition -> the next offset that is not merged."""
        ends: dict[int, int] = {}
        for _, offsets in self.rows:
            ends.update(offsets.get(topic, {}))
        return ends


@dataclass(frozen=True)
class Row:
    """The row as it is in silver: its LSN and times, the file that holds it, the version read."""

    lsn: Lsn
    committed_at: datetime | None
    merged_at: datetime
    file: str
    version: int


@dataclass
class Known:
    """What the lake's tables say about a row.

    Args:
        batches: the batches of its table.
        quarantined: the key's entries in quarantine: place -> status and reason.
        row: the row in silver; None without one.
    """

    batches: Batches = field(default_factory=Batches)
    quarantined: dict[Place, str] = field(default_factory=dict)
    row: Row | None = None


def known_of(lake: Lake, table: str, key: RowKey, topic: str) -> Known:
    """Read the lake's information about a row. Raises: DeltaError, OSError."""
    return Known(
        _batches(lake, table), _quarantined(lake, table, key, topic), row_of(lake, table, key)
    )


def _batches(lake: Lake, table: str) -> Batches:
    try:
        dataset = lake.table(LEDGER).to_pyarrow_dataset()
    except TableNotFoundError:
        return Batches()
    names = pc.field("table_name").cast(pa.string())
    wanted = names.isin(pa.array([table, WHOLE_BATCH], pa.string()))
    ledger = dataset.to_table(columns=_LEDGER_COLUMNS, filter=wanted).sort_by("merged_at")
    rows = [row for row in ledger.to_pylist() if row["table_name"] == table]
    first = any(b == 0 and n == WHOLE_BATCH for b, n in _pairs(ledger))
    return Batches(
        [
            (
                Batch(row["batch_id"], row["delta_version"], row["merged_at"]),
                offsets_of(row["offsets"]),
            )
            for row in rows
        ],
        from_start=first,
    )


def _pairs(ledger: pa.Table) -> list[tuple[int, str]]:
    return list(zip(ledger["batch_id"].to_pylist(), ledger["table_name"].to_pylist(), strict=True))


def _quarantined(lake: Lake, table: str, key: RowKey, topic: str) -> dict[Place, str]:
    """Read the key's entries of quarantine: place -> status and reason."""
    wanted = pc.field("topic").cast(pa.string()) == topic
    try:
        batches = list(with_events(lake, QUARANTINE, table, wanted, _QUARANTINE_COLUMNS))
    except TableNotFoundError:
        return {}
    return {
        Place(row["topic"], row["partition"], row["offset"]): (
            f"{row.get('status') or OPEN}: {row['rule']}: {row['reason']}"
            + (f"; replayed with {row['replayed_values']}" if row.get("replayed_values") else "")
        )
        for rows in batches
        for row in rows
        if key.owns(row["raw_key"], row["raw_value"])
    }


def row_of(lake: Lake, table: str, key: RowKey) -> Row | None:
    """Read the row from the newest version of the table; None without one."""
    try:
        silver = lake.table(lake.silver_path(table))
    except TableNotFoundError:
        return None
    dataset = silver.to_pyarrow_dataset()
    names = [column.name for column in key.columns]
    if not {*names, "_lsn", "_merged_at"} <= set(dataset.schema.names):
        return None
    condition = condition_of(dataset.schema, key)
    columns = ["_lsn", "_committed_at", "_merged_at", "__filename"]
    rows = dataset.to_table(columns=columns, filter=condition).to_pylist()
    if not rows:
        return None
    [row, *_] = rows
    return Row(
        row["_lsn"],
        row["_committed_at"],
        row["_merged_at"],
        str(row["__filename"]).rsplit("/", 1)[-1],
        int(silver.version()),
    )


def condition_of(schema: pa.Schema, key: RowKey) -> pc.Expression:
    """Return the filter of a silver table's dataset for the row with a key."""
    terms = (
        one_of(column.name, pa.array([value], plain_type(schema.field(column.name).type)))
        for column, value in zip(key.columns, key.values, strict=True)
    )
    return reduce(and_, terms)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Replace large and view types, which Arrow's filters do not compare."""
    text = str(kind)
    if text in ("large_string", "string_view"):
        return pa.string()
    return pa.binary() if text in ("large_binary", "binary_view") else kind


class DeltaFiles:
    """Finds the data files that commits of a silver table added, while its log has the commits."""

    def __init__(self, lake: Lake, table: str, key: RowKey) -> None:
        self._files: Any = lake.filesystem()
        self._folder = f"{lake.silver_path(table)}/_delta_log"
        self._key = key
        self._known: dict[int, str | None] = {}

    def of(self, version: int) -> str | None:
        """Return the file in which a version wrote the key's row; None if the log does not say."""
        if version not in self._known:
            self._known[version] = self._read(version)
        return self._known[version]

    def _read(self, version: int) -> str | None:
        try:
            path = f"{self._folder}/{version:020d}.json"
            with self._files.open_input_stream(path, compression=None) as stream:
                lines = stream.read().splitlines()
        except FileNotFoundError:  # the log is kept as long as old versions are
            return None
        added = [action["add"] for action in map(orjson.loads, lines) if "add" in action]
        fitting = [add for add in added if self._may_hold(json.loads(add.get("stats") or "{}"))]
        return unquote(fitting[0]["path"]) if len(fitting) == 1 else None

    def _may_hold(self, stats: Mapping[str, Any]) -> bool:
        low, high = stats.get("minValues") or {}, stats.get("maxValues") or {}
        for column, value in zip(self._key.columns, self._key.values, strict=True):
            least, most = low.get(column.name), high.get(column.name)
            if not (isinstance(value, int) and type(least) is type(most) is int):
                continue  # texts are cut off in statistics
            if not least <= value <= most:
                return False
        return True


def ask_trino(url: str, schema: str, table: str, key: RowKey) -> dict[str, Any] | None:
    """Query the row in Trino: column -> value; None without one.

    Raises: HeadwaterError if Trino does not answer.
    """
    conditions = " AND ".join(f"{identifier(column.name)} = ?" for column in key.columns)
    connection = connect(url)
    try:
        cursor = connection.cursor()
        name = f"{identifier(schema)}.{identifier(table)}"
        cursor.execute(f"SELECT * FROM {name} WHERE {conditions}", key.values)
        rows = cursor.fetchall()
        names = [column[0] for column in cursor.description or ()]
    except Exception as error:
        raise explain(error, url) from error
    finally:
        connection.close()
    return dict(zip(names, rows[0], strict=True)) if rows else None
