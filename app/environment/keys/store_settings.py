"""The place of objects: the part of the profile (`app.environment.profile.Profile`) about the store."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from typing_extensions import Self

# What `gcs_credentials` may be beside the path of a file.
MACHINE_IDENTITY, NO_IDENTITY = "default", "none"


class StoreSettings(BaseModel):
    """The object store: the service `s3` over files, Google Cloud Storage behind it, or an S3 of your own.

    Everything else asks an S3 store and knows none of these kinds.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    s3_endpoint: str | None = None
    """URL of an object store of your own; unset: the embedded one."""
    s3_region: str = "us-east-1"
    """Region of that store."""
    s3_access_key: SecretStr | None = None
    """Its access key."""
    s3_secret_key: SecretStr | None = None
    """Its secret key."""
    gcs_credentials: str = ""
    """Set: the buckets are Google Cloud Storage's, and this is the path of a credentials file, or `default`
    for the identity of the machine or pod (a virtual machine's account, workload identity), or `none` for an
    emulator."""
    gcs_project: str = ""
    """The project of those buckets; unset: that of the credentials."""
    gcs_endpoint: str = Field(default="", pattern=r"^(https?://[^\s/]+)?$")
    """URL of an emulator of Google Cloud Storage; unset: Google's own."""
    bronze_bucket: str = "bronze"
    """The bucket of every event, raw."""
    lake_bucket: str = "lake"
    """The bucket of the Delta tables."""

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        given = self.gcs_credentials
        if not given and (self.gcs_project or self.gcs_endpoint):
            raise ValueError("gcs_project and gcs_endpoint need gcs_credentials")
        if given and self.s3_endpoint is not None:
            raise ValueError("gcs_credentials and s3_endpoint name two stores: give one of them")
        if given == NO_IDENTITY and not self.gcs_endpoint:
            raise ValueError("gcs_credentials = 'none' is for an emulator: give its gcs_endpoint")
        if self.gcs_key_file and not PurePosixPath(given).is_absolute():
            raise ValueError(
                f"gcs_credentials is {given!r}: neither an absolute path nor 'default' or 'none'"
            )
        return self

    @property
    def embedded_s3(self) -> bool:
        """Whether the service `s3` runs: it keeps the objects as files, or asks Google for them."""
        return self.s3_endpoint is None

    @property
    def objects_here(self) -> bool:
        """Whether the objects are files of this machine."""
        return self.embedded_s3 and not self.gcs_credentials

    @property
    def gcs_key_file(self) -> str:
        """The path of the credentials file; "" without one."""
        words = (MACHINE_IDENTITY, NO_IDENTITY)
        return "" if self.gcs_credentials in words else self.gcs_credentials

    @property
    def store_provider(self) -> Literal["filesystem-nio2", "google-cloud-storage"]:
        """What s3proxy calls the store behind the service `s3`."""
        return "google-cloud-storage" if self.gcs_credentials else "filesystem-nio2"
