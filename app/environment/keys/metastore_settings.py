"""The place of Trino's catalog: the part of the profile (`app.environment.profile.Profile`) about the metastore."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from spark_streaming.storage.store_address import VARIABLES

_THRIFT, _HTTPS = "thrift://", "https://"
_ADDRESS = r"(thrift|https)://[^\s/,@]+"


class MetastoreSettings(BaseModel):
    """The metastore: files in the lake, a Hive metastore over Thrift, or AWS Glue."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    metastore: Literal["file", "hive", "glue"] = "file"
    """Where Trino keeps which tables and views there are: `file` in the lake's bucket, `hive` in a Hive
    metastore over Thrift, `glue` in AWS Glue, for a store on AWS."""
    metastore_uri: str = Field(default="", pattern=rf"^({_ADDRESS}(,{_ADDRESS})*)?$")
    """`thrift://HOST:PORT` of a Hive metastore of your own, several with commas, or `https://HOST`, an endpoint
    of Glue; unset: the service `metastore`, or Glue's own endpoint of `s3_region`."""

    @model_validator(mode="after")
    def _address_of_its_kind(self) -> Self:
        kinds = {"file": (), "hive": (_THRIFT,), "glue": (_HTTPS,)}
        addresses = self.metastore_uri.split(",") if self.metastore_uri else []
        if addresses and self.metastore == "file":
            raise ValueError("metastore_uri is for metastore = 'hive' or 'glue'")
        if not all(address.startswith(kinds[self.metastore]) for address in addresses):
            raise ValueError(
                f"metastore_uri of metastore = {self.metastore!r} begins with {kinds[self.metastore][0]}"
            )
        if self.metastore == "glue" and len(addresses) > 1:
            raise ValueError("metastore_uri of metastore = 'glue' is one endpoint")
        return self

    @property
    def hive_service(self) -> bool:
        """Whether the services `metastore` and `metastore-db` run."""
        return self.metastore == "hive" and not self.metastore_uri

    def metastore_properties(self, service: str, lake: str) -> str:
        """Return the lines of a Trino catalog about its metastore.

        Args:
            service: the address of the service `metastore`, `host:port`.
            lake: the lake's address.
        """
        if self.metastore == "hive":
            return _lines({"": "thrift", "uri": self.metastore_uri or f"{_THRIFT}{service}"})
        if self.metastore == "glue":
            lines = {
                "": "glue",
                "glue.region": f"${{ENV:{VARIABLES['region']}}}",
                "glue.aws-access-key": f"${{ENV:{VARIABLES['access_key']}}}",
                "glue.aws-secret-key": f"${{ENV:{VARIABLES['secret_key']}}}",
                "glue.default-warehouse-dir": f"{lake}warehouse",
            }
            return _lines(
                lines | ({"glue.endpoint-url": self.metastore_uri} if self.metastore_uri else {})
            )
        # Files survive a new machine and need no service; the registrar makes them again if they are lost.
        # They hold Trino's version, and another version may read them: they are names and locations.
        return _lines(
            {
                "": "file",
                "catalog.dir": f"{lake}metastore",
                "version-compatibility": "UNSAFE_ASSUME_COMPATIBILITY",
            }
        )


def _lines(properties: dict[str, str]) -> str:
    named = {f"hive.metastore.{key}".rstrip("."): value for key, value in properties.items()}
    return "\n".join(f"{key}={value}" for key, value in named.items())
