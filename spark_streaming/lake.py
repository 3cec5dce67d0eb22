"""The lake's addresses: Delta tables by name, storage options, a file system for plain objects."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pyarrow.fs as pa_fs
from deltalake import DeltaTable

from spark_streaming.settings import StoreSettings, load_store_settings

LEDGER = "ops/ledger"
QUARANTINE = "ops/quarantine"
STREAM_QUARANTINE = "ops/stream_quarantine"
EXPECTATIONS = "ops/expectations"
SCHEMA_CHANGES = "ops/schema_changes"


class Lake:
    """One lake bucket: makes addresses and opens what is there. Holds no connection.

    Args:
        folder: of the bucket, which this lake sees in place of all of it; "" is the whole.
    """

    def __init__(self, settings: StoreSettings, folder: str = "") -> None:
        self._settings = settings
        self._folder = f"{folder}/" if folder else ""

    def __repr__(self) -> str:
        return f"Lake({self.url('')} at {self._settings.s3_endpoint})"

    def below(self, folder: str) -> Lake:
        """A lake of its own in a folder of this one, which does not see the rest."""
        return Lake(self._settings, f"{self._folder}{folder}")

    def for_workers(self) -> Lake:
        """The same lake with the store's settings only: what a Spark task is given."""
        known = {name: getattr(self._settings, name) for name in StoreSettings.model_fields}
        return Lake(StoreSettings(**known), self._folder.rstrip("/"))

    def silver_path(self, table: str) -> str:
        """A silver table's path below the lake; any table name becomes one safe path part."""
        return f"silver/{quote(table, safe=' ')}"

    def url(self, path: str) -> str:
        """Address of `path` for delta-rs and Trino: s3://…"""
        return f"{self._settings.lake_root}/{self._folder}{path}"

    def spark_url(self, path: str) -> str:
        """Address of `path` for Spark: s3a://…"""
        return f"s3a://{self._settings.lake_bucket}/{self._folder}{path}"

    def storage_options(self) -> dict[str, str]:
        """Options for deltalake; holds the secret key: never print it."""
        return {
            "AWS_ENDPOINT_URL": self._settings.s3_endpoint,
            "AWS_REGION": self._settings.s3_region,
            "AWS_ACCESS_KEY_ID": self._settings.s3_access_key.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": self._settings.s3_secret_key.get_secret_value(),
            "AWS_ALLOW_HTTP": str(self._settings.plain_http).lower(),
            # A commit is a put that fails if the version exists: with several writers nothing
            # is ever overwritten.
            "aws_conditional_put": "etag",
        }

    def table(self, path: str, version: int | None = None) -> DeltaTable:
        """The Delta table at `path` below the lake, e.g. `silver/orders`.

        Raises: deltalake.exceptions.TableNotFoundError where there is none.
        """
        return DeltaTable(self.url(path), version=version, storage_options=self.storage_options())

    def exists(self, path: str) -> bool:
        """Whether a Delta table is at `path`."""
        return bool(DeltaTable.is_deltatable(self.url(path), self.storage_options()))

    def filesystem(self) -> Any:
        """A pyarrow file system rooted at the lake, for objects that are not tables."""
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
    """The lake that the `HEADWATER_*` variables name. Raises SettingsError."""
    return Lake(load_store_settings())


def open_table(name: str, version: int | None = None) -> DeltaTable:
    """Open silver table `name` (e.g. `orders`, `sales__orders`) from the environment's settings."""
    lake = lake_from_environment()
    return lake.table(lake.silver_path(name), version)
