"""The columns of a history table: the contract's own, then those that say when a version was valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.names import HISTORY_COLUMNS
from spark_streaming.history.intervals import Instant, Version
from spark_streaming.tables.meaning import ColumnMeaning, TableMeaning

CURRENT = "_is_current"  # the partition column: versions that ended are never rewritten
_TIME = pa.timestamp("us", "UTC")
_FIELDS = (
    pa.field("_lsn", pa.int64()),
    pa.field("_operation", pa.string()),
    pa.field("_valid_from_lsn", pa.int64()),
    pa.field("_valid_to_lsn", pa.int64()),
    pa.field("_valid_from", _TIME),
    pa.field("_valid_to", _TIME),
    pa.field("_ended_by", pa.string()),
    pa.field("_quarantined", pa.bool_()),
    pa.field(CURRENT, pa.bool_()),
)
MEANINGS = {
    "_lsn": "Position in the source's log, in bytes, of the change that made the version.",
    "_operation": "What made it: insert, update, snapshot or key change.",
    "_valid_from_lsn": "The commit from which on the source had it.",
    "_valid_to_lsn": "The commit from which on the source had it no more; NULL while it is current.",
    "_valid_from": "The time of the first of the two commits; of a snapshot's row, when it was read.",
    "_valid_to": "The time of the second; NULL while it is current.",
    "_ended_by": "What ended it: update, delete, key change, truncate, snapshot or resync.",
    "_quarantined": "Whether a later event of the row is in quarantine: silver keeps this version, too.",
    CURRENT: "Whether it is the row as silver has it. The table is partitioned by it.",
}
assert tuple(field.name for field in _FIELDS) == HISTORY_COLUMNS == tuple(MEANINGS)


def history_schema(contract: Contract) -> pa.Schema:
    """Return the schema of a table's history; every column may be NULL."""
    fields = [*contract.data_schema, *_FIELDS]
    return pa.schema([field.with_nullable(True) for field in fields])


def history_meaning(silver: TableMeaning) -> TableMeaning:
    """Return what the history of a silver table means; its columns have the classes of silver's."""
    columns = {name: one for name, one in silver.columns.items() if name not in HISTORY_COLUMNS}
    own = {name: ColumnMeaning(text, "internal") for name, text in MEANINGS.items()}
    description = f"Every version of each row of silver's table. {silver.description}"
    return replace(silver, description=description, columns={**columns, **own})


def rows_of(versions: Sequence[Version], images: pa.Table) -> pa.Table:
    """Return versions as rows of the history table.

    Args:
        images: the contract's columns; the versions name its rows by number.
    """
    taken = pa.array([version.image for version in versions], pa.int64())
    table = images.take(taken)
    left_out = sorted({number for version in versions for number in version.cells})
    for number in left_out:
        places = [version.cells.get(number, version.image) for version in versions]
        column = images.column(number).take(pa.array(places, pa.int64()))
        table = table.set_column(number, images.schema.field(number), column)
    untils = [version.until for version in versions]
    values: list[list[object]] = [
        [version.lsn for version in versions],
        [version.operation for version in versions],
        [version.since.lsn for version in versions],
        [until.lsn if until else None for until in untils],
        [version.since.time_us for version in versions],
        [until.time_us if until else None for until in untils],
        [version.ended_by for version in versions],
        [version.quarantined for version in versions],
        [until is None for until in untils],
    ]
    for field, column in zip(_FIELDS, values, strict=True):
        table = table.append_column(field, pa.array(column, field.type))
    return table


def versions_of(rows: pa.Table, keys: Sequence[tuple[object, ...]], first: int) -> list[Version]:
    """Return rows of the history table as versions; the first one's image has the number `first`."""
    own = rows.select(HISTORY_COLUMNS)
    times = [own[name].cast(pa.int64()).to_pylist() for name in ("_valid_from", "_valid_to")]
    found = []
    plain = own.drop_columns(["_valid_from", "_valid_to"]).to_pylist()
    for number, (key, row, since, until) in enumerate(zip(keys, plain, *times, strict=True)):
        end = row["_valid_to_lsn"]
        found.append(
            Version(
                key,
                first + number,
                row["_lsn"],
                row["_operation"],
                Instant(row["_valid_from_lsn"], since),
                until=None if end is None else Instant(end, until),
                ended_by=row["_ended_by"],
                quarantined=bool(row["_quarantined"]),
            )
        )
    return found
