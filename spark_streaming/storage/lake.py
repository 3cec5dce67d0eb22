"""The lake's addresses: opens Delta tables by name, and a file system for plain objects."""

from __future__ import annotations

from typing import Any

import pyarrow.fs as pa_fs
from deltalake import DeltaTable

from spark_streaming.job_settings import StoreSettings, load_store_settings

LEDGER = "ops/ledger"
QUARANTINE = "ops/quarantine"
STREAM_QUARANTINE = "ops/stream_quarantine"
EXPECTATIONS = "ops/expectations"
SCHEMA_CHANGES = "ops/schema_changes"


class Lake:
    """A lake's bucket, or a folder of it: makes addresses and opens tables. Holds no connection.

    Args:
        folder: the folder of the bucket that this lake is limited to; "" is the whole bucket.
    """

    def __init__(self, settings: StoreSettings, folder: str = "") -> None:
        self._settings = settings
        self._folder = f"{folder}/" if folder else ""

    def __repr__(self) -> str:
        return f"Lake({self.url('')} at {self._settings.s3_endpoint})"

    def below(self, folder: str) -> Lake:
        """Return a lake that is limited to a folder of this one."""
        return Lake(self._settings, f"{self._folder}{folder}")

    def for_workers(self) -> Lake:
        """Return the same lake with only the object store's settings, for Spark tasks."""
        known = {name: getattr(self._settings, name) for name in StoreSettings.model_fields}
        return Lake(StoreSettings(**known), self._folder.rstrip("/"))

    def silver_path(self, table: str) -> str:
        """Return a silver table's path in the lake.

        Names are valid in paths (`names`), and letters are not percent-encoded: delta-rs takes
        `%C3%A4` for `ä`, but Trino and Arrow take it for six characters.
        """
        return f"silver/{table}"

    def url(self, path: str) -> str:
        """Return the address of `path` for delta-rs and Trino: s3://…"""
        return f"{self._settings.lake_root}/{self._folder}{path}"

    def spark_url(self, path: str) -> str:
        """Return the address of `path` for Spark: s3a://…"""
        return f"s3a://{self._settings.lake_bucket}/{self._folder}{path}"

    def storage_options(self) -> dict[str, str]:
        """Return the options for deltalake. They hold the secret key: never print them."""
        return {
            "AWS_ENDPOINT_URL": self._settings.s3_endpoint,
            "AWS_REGION": self._settings.s3_region,
            "AWS_ACCESS_KEY_ID": self._settings.s3_access_key.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": self._settings.s3_secret_key.get_secret_value(),
            "AWS_ALLOW_HTTP": str(self._settings.plain_http).lower(),
            # A commit is a put that fails if the version exists, so that writers never overwrite
            # each other's commits.
            "aws_conditional_put": "etag",
        }

    def table(self, path: str, version: int | None = None) -> DeltaTable:
        """Open the Delta table at `path` in the lake, e.g. `silver/orders`.

        Raises: deltalake.exceptions.TableNotFoundError if there is none.
        """
        return DeltaTable(self.url(path), version=version, storage_options=self.storage_options())

    def exists(self, path: str) -> bool:
        """Whether a Delta table is at `path`."""
        return bool(DeltaTable.is_deltatable(self.url(path), self.storage_options()))

    def filesystem(self) -> Any:
        """Return a pyarrow file system rooted at the lake, for objects that are not tables."""
        s3 = pa_fs.S3FileSystem(
            access_key=self._settings.s3_access_key.get_secret_value(),
            secret_key=self._settings.s3_secret_key.get_secret_value(),
            region=self._settings.s3_region,
            endpoint_override=self._settings.s3_endpoint,
            connect_timeout=5,
            request_timeout=30,
        )
        return pa_fs.SubTreeFileSystem(f"{self._settings.lake_bucket}/{self._folder}", s3)


def lake_from_environment() -> Lake:
    """Return the lake that the `HEADWATER_*` variables name. Raises: SettingsError."""
    return Lake(load_store_settings())


def open_table(name: str, version: int | None = None) -> DeltaTable:
    """Open silver table `name` (e.g. `orders`, `sales__orders`) from the environment's settings."""
    lake = lake_from_environment()
    return lake.table(lake.silver_path(name), version)
