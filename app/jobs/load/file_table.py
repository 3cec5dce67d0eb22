"""Writes the tables of loaded files and of their rejects: one commit for each file in each table.

A commit names its file by two Delta transactions (`txn`): the application is the path, the versions come from
the content and from size and time. So a file is loaded once, however often its load is
interrupted; an unchanged file is not read again, and a changed file is detected.

1. Rejects are committed to `files.rejected`.
2. Rows are committed to the table. A crash before it leaves rejects alone; the next run finds their
   transaction, and commits the rows only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError

from app.errors import HeadwaterError
from app.jobs.load.file_contract import TIMESTAMP, FileContract
from app.jobs.load.source_files import SourceFile
from spark_streaming.storage.lake import Lake

REJECTED = "files/rejected"
_REJECTED_SCHEMA = pa.schema(
    [
        ("table_name", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("rule", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),
        ("rejected_at", TIMESTAMP),
    ]
)
_STATE = "state"


class Mark(NamedTuple):
    """The loaded version of a file: the numbers for its content and its state, as in `SourceFile`."""

    content: int | None
    state: int | None


class Rejected(NamedTuple):
    """A row that broke its contract."""

    line: int
    rule: str
    reason: str
    raw: str


class FileTable:
    """One table of `files`.

    Args:
        lake: for writing. table: its name, without the schema.
    """

    def __init__(self, lake: Lake, table: str, contract: FileContract) -> None:
        self._lake, self._table = lake, table
        self._path = f"files/{table}"
        self._contract = contract
        self._columns = contract.table_schema()

    def check(self) -> None:
        """Raise HeadwaterError if the table exists with a column of another type."""
        table = self._opened(self._path)
        if table is None:
            return
        there = {field.name: field.type for field in pa.schema(table.schema().to_arrow())}
        for field in self._columns:
            if field.name in there and there[field.name] != field.type:
                raise HeadwaterError(
                    f"`files.{self._table}` has `{field.name}` as {there[field.name]}, "
                    f"the contract has {field.type}",
                    hint="load into a table of another name, or drop this one",
                )

    def loaded(self, files: Sequence[SourceFile]) -> dict[str, Mark]:
        """Return the loaded files by name."""
        table = self._opened(self._path)
        if table is None:
            return {}
        marks = {
            file.name: Mark(
                table.transaction_version(self._application(file.name)),
                table.transaction_version(self._application(file.name, _STATE)),
            )
            for file in files
        }
        return {name: mark for name, mark in marks.items() if mark.content is not None}

    def reject(
        self, file: SourceFile, content: int, rows: Sequence[Rejected], at: datetime
    ) -> None:
        """Commit the rejects of a file, unless they are already in the table."""
        table = self._opened(REJECTED)
        transaction = Transaction(self._application(file.name), content)
        known = table.transaction_version(transaction.app_id) if table is not None else None
        if not rows or known == content:
            return
        columns = {
            "table_name": [self._table] * len(rows),
            "file": [file.name] * len(rows),
            **{name: [getattr(row, name) for row in rows] for name in Rejected._fields},
            "rejected_at": [at] * len(rows),
        }
        self._append(REJECTED, pa.table(columns, _REJECTED_SCHEMA), [transaction])

    def append(
        self, file: SourceFile, content: int, rows: Iterable[dict[str, object]], at: datetime
    ) -> None:
        """Commit the rows of a file, each with `_line`. Only one batch is in memory."""

        def batches() -> Iterator[pa.RecordBatch]:
            for some in _chunks(rows):
                whole = [{**row, "_file": file.name, "_loaded_at": at} for row in some]
                yield pa.RecordBatch.from_pylist(whole, self._columns)

        reader = pa.RecordBatchReader.from_batches(self._columns, batches())
        marks = [
            Transaction(self._application(file.name), content),
            Transaction(self._application(file.name, _STATE), file.state),
        ]
        self._append(self._path, reader, marks)

    def _append(
        self, path: str, rows: pa.Table | pa.RecordBatchReader, marks: list[Transaction]
    ) -> None:
        write_deltalake(
            self._lake.url(path),
            rows,
            mode="append",
            schema_mode="merge",
            description=self._contract.description or None if path == self._path else None,
            storage_options=self._lake.storage_options(),
            commit_properties=CommitProperties(app_transactions=marks),
        )

    def _opened(self, path: str) -> DeltaTable | None:
        try:
            return self._lake.table(path)
        except TableNotFoundError:
            return None

    def _application(self, file: str, kind: str = "content") -> str:
        path = hashlib.sha256(file.encode()).hexdigest()
        return f"headwater:load:{self._table}:{kind}:{path}"


def _chunks(
    rows: Iterable[dict[str, object]], size: int = 10_000
) -> Iterator[list[dict[str, object]]]:
    some: list[dict[str, object]] = []
    for row in rows:
        some.append(row)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
