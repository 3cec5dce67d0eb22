"""The profile's keys for the user's own parts (see `app.environment.profile.Profile`)."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from app.environment.signed_in import without_user
from app.environment.toml_files import NATIVE


class PartSettings(BaseModel):
    """Where parts are that the stack shall use and not start; one that is not set is the stack's own.

    Each URL names its user and password before the host, percent-encoded: it is a secret as a whole.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    connect_url: Annotated[SecretStr | None, NATIVE] = None
    """The REST interface of your own Kafka Connect cluster, `https://user:password@host:port`; several workers
    with commas. docs/operations/own-parts.md says what it must have."""
    trino_url: Annotated[SecretStr | None, NATIVE] = None
    """Your own Trino, `https://user:password@host:port`; `?verify=FILE` names the certificate of its authority.
    Its catalog `lake` is yours to set up: docs/operations/own-parts.md has its lines."""
    superset_url: Annotated[SecretStr | None, NATIVE] = None
    """Your own Superset, `https://user:password@host`: `up --dashboards` imports its dashboards there."""
    prometheus_remote_write_url: Annotated[SecretStr | None, NATIVE] = None
    """The address to which the stack's Prometheus also sends its metrics,
    `https://user:password@host/api/v1/write`."""
    prometheus_remote_write_name: Annotated[str, NATIVE] = Field(
        default="headwater", pattern=r"^[A-Za-z0-9_.-]{1,60}$"
    )
    """The label `stack` of these metrics, which distinguishes several stacks."""

    openlineage_url: Annotated[SecretStr | None, NATIVE] = None
    """Where lineage is sent as OpenLineage events (Marquez, DataHub, OpenMetadata):
    `https://user:password@host/api/v1/lineage`, or with a token alone before the `@`."""

    @field_validator(
        "connect_url", "trino_url", "superset_url", "prometheus_remote_write_url", "openlineage_url"
    )
    @classmethod
    def _a_url(cls, url: SecretStr | None) -> SecretStr | None:
        for one in url.get_secret_value().split(",") if url else ():
            try:
                parts = urlsplit(one)
                whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
            except ValueError:
                whole = False
            if not whole:
                # Not the text itself: it may hold a password.
                raise ValueError("write it as https://user:password@host:port")
        return url

    def own_parts(self) -> dict[str, str]:
        """Return the name and the URL, without its user, of each part that the stack does not start."""
        urls = {"connect": self.connect_url, "trino": self.trino_url, "superset": self.superset_url}
        return {
            name: ",".join(without_user(one) for one in url.get_secret_value().split(","))
            for name, url in urls.items()
            if url is not None
        }

    @property
    def lineage_receiver(self) -> str:
        """Where lineage is sent; empty for nowhere. It holds a password: never print it."""
        return self.openlineage_url.get_secret_value() if self.openlineage_url else ""

    @property
    def connect_here(self) -> bool:
        """Whether the stack starts Kafka Connect's workers."""
        return self.connect_url is None

    @property
    def trino_here(self) -> bool:
        """Whether the stack starts Trino."""
        return self.trino_url is None
