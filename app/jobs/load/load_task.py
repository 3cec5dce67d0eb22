"""Loads files into a table of `files`: `python -m app.jobs.load.load_task SOURCE FORMAT TABLE CONTRACT`.

Each file is loaded once, in a commit of its own, in the order of names. It is read twice: first to find its
rejects, then its rows. The task, of kind `load`, reports `files`, `rows_written`, `rejected` and `waiting`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from deltalake.exceptions import DeltaError

from app.environment.settings import load
from app.errors import HeadwaterError
from app.jobs.load.file_contract import FileContract, read_file_contract
from app.jobs.load.file_rows import SUFFIXES, Row, rows_of
from app.jobs.load.file_table import FileTable, Mark, Rejected
from app.jobs.load.source_files import Source, SourceFile
from app.jobs.report import report
from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import SettingsError
from spark_streaming.streams.stream_event import ColumnJudge, Refused

REJECTED_MAX = 1_000  # of a file; a file with more rejects does not fit its contract


class Load:
    """One run over the files of a source."""

    def __init__(self, source: Source, fmt: str, table: FileTable, contract: FileContract) -> None:
        self._source, self._format, self._table = source, fmt, table
        self._columns = contract.columns
        self._judge = ColumnJudge("row", contract.columns)
        self.counts = {"files": 0, "rows_written": 0, "rejected": 0, "waiting": 0}

    def run(self) -> dict[str, int]:
        """Load the new files. Returns: `counts`.

        A file that cannot be loaded does not prevent the others; at the end the first error is raised.
        """
        self._table.check()
        listing = self._source.listed()
        self.counts["waiting"] = listing.waiting
        known = self._table.loaded(listing.files)
        failed: list[HeadwaterError] = []
        for file in listing.files:
            mark = known.get(file.name)
            if mark is not None and mark.state == file.state:
                continue
            try:
                self._load(file, mark)
            except HeadwaterError as error:
                print(f"{file.name}: {error}", file=sys.stderr, flush=True)
                failed.append(HeadwaterError(f"{file.name}: {error.message}", detail=error.detail))
        if failed:
            raise HeadwaterError(
                f"{len(failed)} of {len(listing.files)} files were not loaded",
                detail=str(failed[0]),
            )
        return self.counts

    def _load(self, file: SourceFile, known: Mark | None) -> None:
        with tempfile.TemporaryDirectory(prefix="headwater-load-") as folder:
            # Keep the extensions, which say how to unpack it; use no other part of the name as a path.
            copy = Path(folder) / f"file{''.join(Path(file.name).suffixes[-2:])}"
            content = self._source.copy(file, copy)
            if known is not None and known.content == content:
                return
            if known is not None:
                raise HeadwaterError(
                    "the file changed after it was loaded",
                    hint="put new rows into a new file: each file is loaded once",
                )
            at = datetime.now(timezone.utc)
            rejects, rows = self._judged(copy)
            self._table.reject(file, content, rejects, at)
            self._table.append(file, content, self._rows(copy), at)
        self.counts["files"] += 1
        self.counts["rows_written"] += rows
        self.counts["rejected"] += len(rejects)
        print(f"{file.name}: {rows:,} rows, {len(rejects):,} rejected", flush=True)

    def _judged(self, copy: Path) -> tuple[list[Rejected], int]:
        rejects: list[Rejected] = []
        count = 0
        for row in rows_of(copy, self._format, self._columns):
            refused = self._refusal(row)
            count += refused is None
            if refused is not None:
                rejects.append(Rejected(row.line, refused.rule, refused.reason, row.raw))
            if len(rejects) > REJECTED_MAX:
                raise HeadwaterError(
                    f"more than {REJECTED_MAX:,} rows break the contract",
                    detail=f"row {rejects[0].line}: {rejects[0].reason}",
                    hint="check that the contract describes these files",
                )
        return rejects, count

    def _refusal(self, row: Row) -> Refused | None:
        if row.refused is not None:
            return row.refused
        try:
            self._judge.values(row.values)
        except Refused as refused:
            return refused
        return None

    def _rows(self, copy: Path) -> Iterator[dict[str, object]]:
        for row in rows_of(copy, self._format, self._columns):
            if row.refused is None:
                try:
                    yield {**self._judge.values(row.values), "_line": row.line}
                except Refused:
                    continue


def main(arguments: list[str]) -> int:
    """Load new files; exit 1 with a few lines if a file could not be loaded."""
    address, fmt, name, contract_path = arguments
    found: Load | None = None
    try:
        store = load().store
        contract = read_file_contract(Path(contract_path))
        table = FileTable(Lake(store).for_writing(), name.partition(".")[2], contract)
        found = Load(Source(address, store, SUFFIXES[fmt]), fmt, table, contract)
        found.run()
    except (HeadwaterError, ContractFileError, SettingsError, DeltaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if found is not None:
            report(**found.counts)
            print(json.dumps(found.counts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
