"""The object store's address: where bronze and the lake are, and the credentials for them.

It is made in one place, from the profile (`app.environment.settings`) or from a service's
`HEADWATER_*` variables. `store_clients` derives the options of each client from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

# Field of ObjectStore → the variable in which services and readers get it.
VARIABLES = {
    "endpoint": "HEADWATER_S3_ENDPOINT",
    "region": "HEADWATER_S3_REGION",
    "access_key": "HEADWATER_S3_ACCESS_KEY",
    "secret_key": "HEADWATER_S3_SECRET_KEY",
    "bronze_bucket": "HEADWATER_BRONZE_BUCKET",
    "lake_bucket": "HEADWATER_LAKE_BUCKET",
    "lake_folder": "HEADWATER_LAKE_FOLDER",
}


class SettingsError(Exception):
    """A service's variable is missing or wrong; the text names it and the problem, never a secret."""


@dataclass(frozen=True)
class ObjectStore:
    """An S3 store, addressed by path. Holds a secret, which `repr` leaves out.

    Without `endpoint` it is AWS's store in the region. Without keys the client finds credentials
    by itself (for example a pod's role).
    """

    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    bronze_bucket: str = "bronze"
    lake_bucket: str = "lake"
    lake_folder: str = ""  # a folder of `lake_bucket`, for a further source
    scheme: ClassVar[str] = "s3"

    @property
    def plain_http(self) -> bool:
        """Whether requests to the store go without TLS."""
        return self.endpoint.startswith("http://")

    def url(self, bucket: str, path: str) -> str:
        """Return the address of an object or folder: s3://bucket/path."""
        return f"{self.scheme}://{bucket}/{path}"

    def bronze_url(self, path: str) -> str:
        """Return the address of an object of bronze."""
        return self.url(self.bronze_bucket, path)

    def variables(self) -> dict[str, str]:
        """Return the `HEADWATER_*` variables from which `store_of` makes this store."""
        return {variable: getattr(self, name) for name, variable in VARIABLES.items()}


def store_of(environment: Mapping[str, str]) -> ObjectStore:
    """Read a store from environment variables; variables that are not set have defaults."""
    given = {name: environment.get(variable) for name, variable in VARIABLES.items()}
    return ObjectStore(**{name: value for name, value in given.items() if value})


def load_store() -> ObjectStore:
    """Read the store of this service's environment.

    Raises: SettingsError naming every variable that is needed and not set.
    """
    needed = [VARIABLES[name] for name in ("endpoint", "access_key", "secret_key")]
    missing = [f"setting {name}: Field required" for name in needed if name not in os.environ]
    if missing:
        hint = "hint: `headwater up` sets all of them for its services"
        raise SettingsError("\n".join([*missing, hint]))
    return store_of(os.environ)
