"""Read a Delta table with delta-rs: no JVM, no cluster.

python -m app.readers.deltalake_reader orders --state orders.state
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from app.errors import HeadwaterError
from app.readers.follow import FEED, feed_error, gone_error, run
from app.readers.reader_lines import READ, Change, row_text
from spark_streaming.storage.store_address import ObjectStore
from spark_streaming.storage.store_clients import delta_options

SERVICE = "deltalake-reader"
# The columns that the feed adds to the table's.
CHANGE, VERSION, TIME = "_change_type", "_commit_version", "_commit_timestamp"
BATCH_ROWS = 8_192
_EPOCH = datetime(1970, 1, 1)


class DeltaRsTable:
    """One table, opened once and then updated."""

    def __init__(self, address: str, store: ObjectStore) -> None:
        self._address = address
        self._options = delta_options(store)
        self._table = self._open()
        self._has_feed = False

    def newest(self) -> int:
        self._table.update_incremental()
        return int(self._table.version())

    def rows(self, version: int) -> Iterator[Change]:
        table = self._table if self._table.version() == version else self._open(version)
        moment = next((int(commit["timestamp"]) for commit in table.history(limit=1)), None)
        for batch in table.to_pyarrow_dataset().to_batches(batch_size=BATCH_ROWS):
            for row in batch.to_pylist():
                yield Change(version, moment, READ, row_text(row))

    def changes(self, first: int, last: int) -> Iterator[Change]:
        self._require_feed(first)
        for version in range(first, last + 1):
            # One version at a time: delta-rs gives no order among several.
            try:
                feed = self._table.load_cdf(starting_version=version, ending_version=version)
                for batch in pa.RecordBatchReader.from_stream(feed):
                    yield from map(_change, batch.to_pylist())
            except (DeltaError, OSError) as error:
                if "change data" in str(error).lower():
                    raise feed_error(self._address, version) from error
                raise gone_error(self._address, version, _short(error)) from error

    def _require_feed(self, version: int) -> None:
        """Raise if the feed is off: rewritten files would read as rows deleted and inserted."""
        if self._has_feed:
            return  # for a later version that switches it off, delta-rs itself raises an error
        if self._open(version).metadata().configuration.get(FEED) != "true":
            raise feed_error(self._address, version)
        self._has_feed = True

    def _open(self, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(self._address, version=version, storage_options=self._options)
        except TableNotFoundError as error:
            raise HeadwaterError(
                f"there is no Delta table at {self._address}",
                hint="`./headwater sql 'SHOW TABLES'` lists silver's",
            ) from error
        except (DeltaError, OSError) as error:
            if version is not None:
                raise gone_error(self._address, version, _short(error)) from error
            raise HeadwaterError(
                f"cannot open {self._address}", detail=_short(error), hint="is the store reachable?"
            ) from error


def _change(row: dict[str, Any]) -> Change:
    kind, version, moment = row.pop(CHANGE), row.pop(VERSION), row.pop(TIME)
    # The commit's own time, in UTC without a zone.
    since = (moment - _EPOCH).total_seconds()
    return Change(version, round(since * 1000), kind, row_text(row))


def _short(error: Exception) -> str:
    """Return the innermost cause: the last line of delta-rs' message."""
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else repr(error)


def main() -> int:
    """Run the reader; see `follow.run`."""
    return run(SERVICE, lambda options: DeltaRsTable(options.table, options.store))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # If reading stopped early, Arrow's threads still read ahead, and the C++ runtime aborts a
    # process that ends during that.
    os._exit(code)
