"""What a cluster looks like, as its owner says: `cluster.toml`, typed and closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.deploy.sizing.coefficients import parse
from app.environment.profile import Profile
from app.environment.toml_files import SettingsError

CLUSTER = Path(__file__).with_name("cluster.toml")
NAME = r"^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$"
SECRET_KEYS = ("source_dsn", "capture_dsn", "s3_access_key", "s3_secret_key")
SET_HERE = ("network", "port_offset", "published_ports", "dashboards")


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Brokers(_Closed):
    """Kafka's node pool; each node is broker and controller."""

    brokers: int = Field(ge=1)
    storage: str
    memory_mb: int = Field(ge=1024)
    cpu: str


class Workers(_Closed):
    """Connect's workers."""

    workers: int = Field(ge=1)
    memory_mb: int = Field(ge=1024)
    cpu: str


class Trino(_Closed):
    """For the values of Trino's chart."""

    workers: int = Field(ge=0)
    heap_gb: int = Field(ge=1)


class Outside(_Closed):
    """Addresses outside of the cluster that pods may reach."""

    cidr: str
    ports: list[int]


class Cluster(_Closed):
    """All of it."""

    namespace: str = Field(pattern=NAME)
    cluster: str = Field(pattern=NAME)
    monitoring_namespace: str = Field(pattern=NAME)
    strimzi_namespace: str = Field(pattern=NAME)
    images: dict[str, str]
    profile: dict[str, Any]
    kafka: Brokers
    connect: Workers
    trino: Trino
    cpu: dict[str, str]
    memory_mb: dict[str, int]
    storage: dict[str, str]
    outside: list[Outside]

    def profile_keys(self) -> dict[str, Any]:
        """The keys of the profile. Raises: SettingsError for a secret or one that is set here."""
        for key in self.profile:
            if key in SECRET_KEYS or key in SET_HERE or key not in Profile.model_fields:
                secret = key in SECRET_KEYS
                raise SettingsError(
                    f"`profile.{key}` of a cluster's file cannot be set\nhint: "
                    + (
                        f"give it as HEADWATER_{key.upper()} to `python -m app.deploy home`"
                        if secret
                        else "docs/reference/settings.md lists the keys"
                    )
                )
        if not self.profile.get("s3_endpoint"):
            raise SettingsError(
                "`profile.s3_endpoint` is missing: a cluster needs a store of its own"
            )
        return {**self.profile, "network": "containers"}


def read_cluster(path: Path = CLUSTER) -> Cluster:
    """Read a cluster's file. Raises: SettingsError that names the key."""
    return parse(Cluster, path)
