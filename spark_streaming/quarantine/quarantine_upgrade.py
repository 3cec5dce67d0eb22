"""Brings quarantine entries of earlier releases or contract files up to date.

Earlier releases kept the events in the table of entries, which Trino shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake import write_deltalake as write_delta

from spark_streaming.quarantine.hiding import Hiding
from spark_streaming.quarantine.raw_events import HOOKS, RawEvents, has_events
from spark_streaming.quarantine.raw_events import SCHEMA as EVENTS
from spark_streaming.storage.lake import Lake

# Set as the last step: a table without it may still have old files that hold events.
DESCRIPTION = "events that broke their contract; the events themselves: headwater quarantine show"
_READ_ROWS = 256


def upgrade(
    lake: Lake,
    path: str,
    table: DeltaTable,
    schema: pa.Schema,
    events: RawEvents,
    hiding: Callable[[str], Hiding],
) -> DeltaTable:
    """Bring a table of entries to its current form; repeating it after a crash changes nothing.

    1. Move the events to their own table.
    2. Write the entries again without the events, and without values of columns that are now
    masked.
    3. Remove the files of older versions, because Trino reads those, too.

    Args:
        schema: the schema of the entries.
    Returns: the table at its newest version.
    """
    dataset = table.to_pyarrow_dataset()
    old = has_events(dataset)
    if old:
        events.replace(_reader(dataset, EVENTS))
    shown = old or _shows_masked(dataset, hiding)
    if shown:
        rows = _reader(dataset, schema, hiding)
        write_delta(
            table,
            rows,
            mode="overwrite",
            schema_mode="overwrite",
            post_commithook_properties=HOOKS,
        )
        table = lake.table(path)
    if shown or table.metadata().description != DESCRIPTION:
        table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
        table.alter.set_table_description(DESCRIPTION)
        table = lake.table(path)
    return table


def _reader(
    dataset: pa.dataset.Dataset,
    schema: pa.Schema,
    hiding: Callable[[str], Hiding] | None = None,
) -> pa.RecordBatchReader:
    """The dataset's rows with the columns of `schema`; columns that it lacks are NULL."""
    names = [name for name in schema.names if name in dataset.schema.names]

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in dataset.to_batches(columns=names, batch_size=_READ_ROWS):
            rows = batch.to_pylist()
            if hiding is not None:
                rows = [row | _hidden(row, hiding) for row in rows]
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _hidden(row: dict[str, str], hiding: Callable[[str], Hiding]) -> dict[str, str | None]:
    masks = hiding(row["table_name"])
    values = row.get("replayed_values")
    return {
        "key": masks.key(row["key"]),
        "reason": masks.reason(row["reason"]),
        "replayed_values": masks.values(values) if values else None,
    }


def _shows_masked(dataset: pa.dataset.Dataset, hiding: Callable[[str], Hiding]) -> bool:
    """Whether some text shows a value of a column that is masked now."""
    texts = ["table_name", "key", "reason", "replayed_values"]
    names = [name for name in texts if name in dataset.schema.names]
    tables = pc.unique(dataset.to_table(columns=["table_name"])["table_name"]).to_pylist()
    masked = [name for name in tables if hiding(name) != Hiding()]
    if not masked:
        return False
    wanted = pc.field("table_name").cast(pa.string()).isin(pa.array(masked, pa.string()))
    return any(
        any(row.get(name) != value for name, value in _hidden(row, hiding).items())
        for batch in dataset.to_batches(columns=names, filter=wanted, batch_size=_READ_ROWS)
        for row in batch.to_pylist()
    )
