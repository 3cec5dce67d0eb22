"""Makes the lake's addresses, opens Delta tables by name and a file system for plain objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deltalake import DeltaTable

from spark_streaming.storage.conditional_puts import prove_conditional_puts
from spark_streaming.storage.store_address import ObjectStore, load_store
from spark_streaming.storage.store_clients import (
    arrow_files,
    delta_writer_options,
    hadoop_url,
    objects_below,
)

LEDGER = "ops/ledger"
QUARANTINE = "ops/quarantine"
STREAM_QUARANTINE = "ops/stream_quarantine"
EXPECTATIONS = "ops/expectations"
SCHEMA_CHANGES = "ops/schema_changes"


class Lake:
    """A bucket of the store, or a folder of it: makes addresses, opens tables, keeps no connection.

    Args:
        folder: the folder of the bucket that this lake is limited to; "" is the whole bucket.
            Default: the store's own folder.
        bucket: a bucket to use instead of the lake's.
        fence: called when a table has been opened; raises if this process may not write any more.
    """

    _fence: Callable[[], None] | None = None

    def __init__(
        self,
        store: ObjectStore,
        folder: str | None = None,
        bucket: str = "",
        fence: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._bucket = bucket or store.lake_bucket
        if folder is None:
            folder = "" if bucket else store.lake_folder
        self._folder = f"{folder}/" if folder else ""
        self._fence = fence

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_fence": None}  # executors only read, so they need no fence

    def __repr__(self) -> str:
        return f"Lake({self.url('')} at {self._store.endpoint})"

    def below(self, folder: str) -> Lake:
        """Return a lake that is limited to a folder of this one."""
        return Lake(self._store, f"{self._folder}{folder}", self._bucket, self._fence)

    def fenced(self, fence: Callable[[], None]) -> Lake:
        """Return this lake with `fence`, as the class describes it."""
        return Lake(self._store, self._folder.rstrip("/"), self._bucket, fence)

    def fence(self) -> None:
        """Raise if this process may not write any more."""
        if self._fence is not None:
            self._fence()

    def for_writing(self) -> Lake:
        """Prove that the store refuses to put a name twice, then return this lake.

        Raises: OverwritingStore if the store does not refuse; OSError if it cannot be asked.
        """
        prove_conditional_puts(self._store, self._bucket)
        return self

    def silver_path(self, table: str) -> str:
        """Return a silver table's path in the lake.

        Names are valid in paths (see `names`). Letters are not percent-encoded: delta-rs reads
        `%C3%A4` as `ä`, but Trino and Arrow read it as six characters.
        """
        return f"silver/{table}"

    def history_path(self, table: str) -> str:
        """Return the path of the history of a silver table."""
        return f"history/{table}"

    def url(self, path: str) -> str:
        """Return the address of `path` for delta-rs and Trino: s3://…"""
        return self._store.url(self._bucket, f"{self._folder}{path}")

    def spark_url(self, path: str) -> str:
        """Return the address of `path` for Spark."""
        return hadoop_url(self.url(path))

    def storage_options(self) -> dict[str, str]:
        """Return the options for deltalake. They hold the secret key: never print them."""
        return delta_writer_options(self._store)

    def table(self, path: str, version: int | None = None) -> DeltaTable:
        """Open the Delta table at `path` in the lake, e.g. `silver/orders`.

        Raises: deltalake.exceptions.TableNotFoundError if there is none.
        """
        try:
            return DeltaTable(
                self.url(path), version=version, storage_options=self.storage_options()
            )
        finally:
            # Checked after reading: if another driver was faster, a commit to the version read is
            # refused.
            self.fence()

    def exists(self, path: str) -> bool:
        """Whether a Delta table is at `path`."""
        return bool(DeltaTable.is_deltatable(self.url(path), self.storage_options()))

    def filesystem(self) -> Any:
        """Return a pyarrow file system rooted at the lake, for objects that are not tables."""
        return arrow_files(self._store, f"{self._bucket}/{self._folder}")

    def objects(self, path: str) -> Any:
        """Return a client (obstore) of the objects below `path`: whole ones, and puts on a condition."""
        return objects_below(self._store, self._bucket, f"{self._folder}{path}")


def bronze_files(store: ObjectStore) -> Any:
    """Return a pyarrow file system rooted at the bronze bucket."""
    return arrow_files(store, f"{store.bronze_bucket}/")


def open_table(name: str, version: int | None = None) -> DeltaTable:
    """Open silver table `name` (e.g. `orders`, `sales__orders`) from the environment's settings."""
    lake = Lake(load_store())
    return lake.table(lake.silver_path(name), version)
