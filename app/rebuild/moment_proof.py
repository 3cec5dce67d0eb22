"""Proves a table that was built as of a moment, in one of two ways.

1. The ledger says which Kafka offsets each version of the current table has merged. If a version
has
   exactly the events of the moment and its files are still kept, it is opened by Delta's time
   travel and compared row by row. Batches made that version from Kafka, whereas the rebuild read
   bronze.
   2. If there is no such version, the moment's events are replayed one row at a time
   (`replay_rows`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from app.compare.compare import Comparison, Difference, Rows, compare
from app.compare.silver_rows import SilverRows
from app.lake.lakehouse import LEDGER_COLUMNS, Lakehouse, LedgerEntry, ledger_entry
from app.rebuild.moment import Cut
from spark_streaming.contract.contract import Contract
from spark_streaming.ops.stopped import RESUMING, RUNNING
from spark_streaming.storage.lake import LEDGER

EQUAL, DIFFERENT, NOT_PROVED = "equal", "different", "not proved"
TRIED_MAX = 5


@dataclass(frozen=True)
class Proof:
    """The outcome of a proof.

    Args:
        verdict: EQUAL, DIFFERENT or NOT_PROVED.
        by: the version that was compared, or why none could be.
        differences: the first rows that differ.
    """

    verdict: str
    by: str
    differences: tuple[Difference, ...] = ()


class Version(NamedTuple):
    """A version of the current table, and the offsets that are merged into it."""

    number: int
    offsets: dict[int, int]


def versions(entries: list[LedgerEntry], topic: str) -> list[Version]:
    """Return the versions that the ledger rows of one table name, oldest first.

    Args:
        entries: the table's rows, in any order.
    """
    found: list[Version] = []
    number: int | None = None
    for entry in sorted(entries, key=lambda e: (e.merged_at, e.batch_id)):
        # A batch without new changes of a table advances its offsets, not its version.
        number = number if entry.delta_version is None else entry.delta_version
        if number is not None and topic in entry.offsets and entry.state in (RUNNING, RESUMING):
            found.append(Version(number, entry.offsets[topic]))
    return found


def prove(
    lake: Lakehouse,
    table: str,
    topic: str,
    built: DeltaTable,
    contract: Contract,
    cut: Cut,
    *,
    scratch: Path,
) -> Proof:
    """Compare a table built as of a moment with the current table's version of that moment."""
    told = versions(_entries(lake, table), topic)
    exact = sorted({v.number for v in told if cut.is_held_exactly(v.offsets)}, reverse=True)
    if not exact:
        return Proof(
            NOT_PROVED,
            "no version of the current table has exactly the events of that moment: "
            "its batches merged later events together with them, or it did not exist yet",
        )
    reason = ""
    for number in exact[:TRIED_MAX]:
        try:
            then = lake.silver(table, number)
            return _compared(built, then, contract, number, scratch)
        except (DeltaError, TableNotFoundError, OSError) as error:
            reason = type(error).__name__
    return Proof(
        NOT_PROVED,
        f"version {exact[0]} of the current table had exactly these events, and is not kept any more "
        f"({reason})",
    )


def _entries(lake: Lakehouse, table: str) -> list[LedgerEntry]:
    dataset = lake.lake.table(LEDGER).to_pyarrow_dataset()
    columns = [name for name in LEDGER_COLUMNS if name in dataset.schema.names]
    rows = dataset.to_table(columns=columns, filter=pc.field("table_name") == pa.scalar(table))
    return [ledger_entry(row) for row in rows.to_pylist()]


def _compared(
    built: DeltaTable, then: DeltaTable, contract: Contract, number: int, scratch: Path
) -> Proof:
    common, left_out = common_columns(built, then, contract)
    by = f"version {number} of the current table"
    if left_out:
        by += f"; without {', '.join(left_out)}, which it lacked or had with another type"
    if not common.columns or set(common.key) & set(left_out):
        return Proof(NOT_PROVED, f"{by}: no common key")
    found = _comparison(SilverRows(then, common).texts, built, common, scratch)
    return Proof(EQUAL if found.equal else DIFFERENT, by, found.differences)


def prove_by_replay(
    replayed: Rows, built: DeltaTable, contract: Contract, *, quarantined: int, scratch: Path
) -> Proof:
    """Compare a table built as of a moment with the rows of a replay.

    Args:
        replayed: returns the replay's rows, which no rule has judged.
        quarantined: how many of the moment's events the rebuild has put in quarantine.
    """
    found = _comparison(replayed, built, contract, scratch)
    by = "a replay of the moment's events, row by row"
    if found.equal or not quarantined:
        return Proof(EQUAL if found.equal else DIFFERENT, by, found.differences)
    return Proof(
        NOT_PROVED,
        f"{by}, differs; {quarantined} of the events are in quarantine, which the replay does not apply",
        found.differences,
    )


def _comparison(expected: Rows, built: DeltaTable, contract: Contract, scratch: Path) -> Comparison:
    ours = SilverRows(built, contract)
    names = [column.name for column in contract.columns]
    key = [names.index(name) for name in contract.key]
    return compare(expected, ours.texts, names, key, scratch=scratch, expected_rows=ours.rows)


def common_columns(
    built: DeltaTable, then: DeltaTable, contract: Contract
) -> tuple[Contract, list[str]]:
    """Return the contract of the columns that two tables share, and the names of the others."""
    ours, theirs = (_types(table) for table in (built, then))
    alike = [c for c in contract.columns if c.name in ours and ours[c.name] == theirs.get(c.name)]
    names = {column.name for column in alike}
    left_out = sorted((ours.keys() | theirs.keys()) - names - _own(ours, contract))
    return replace(contract, columns=tuple(alike)), left_out


def _own(types: dict[str, str], contract: Contract) -> set[str]:
    """Return silver's own columns, which the source does not have."""
    return {name for name in types if name.startswith("_") and name not in contract.by_name}


def _types(table: DeltaTable) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema().fields}
