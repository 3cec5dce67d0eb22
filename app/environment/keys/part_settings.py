"""The profile's keys for the user's own parts (see `app.environment.profile.Profile`)."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from app.environment.signed_in import without_user
from app.environment.toml_files import NATIVE

# With a server and the name of a database. Of a MySQL, one server: an alias of SQLAlchemy's would
# choose another driver.
_SERVING = re.compile(
    r"^(?:postgres(?:ql)?://(?:[^/?#]+)|mysql://(?:[^/?#]*@)?[\w.-]+(?::\d+)?)/[^/?#]+(?:\?.*)?$"
)


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
    serving_dsn: SecretStr | None = None
    """The PostgreSQL or MySQL that jobs publish in, `postgresql://user:password@host:port/database` or `mysql://…`;
    unset: the stack's own. Also as HEADWATER_SERVING_DSN."""

    @field_validator("serving_dsn")
    @classmethod
    def _a_database(cls, dsn: SecretStr | None) -> SecretStr | None:
        if dsn is not None and not _SERVING.match(dsn.get_secret_value()):
            # Not the text itself: it may hold a password.
            raise ValueError(
                "write it as postgresql://user:password@host:port/database, or mysql://…; "
                "no other kind of database is supported"
            )
        return dsn

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
        found = {
            name: ",".join(without_user(one) for one in url.get_secret_value().split(","))
            for name, url in urls.items()
            if url is not None
        }
        # Its options may hold secrets too.
        serving = without_user(self.serving_given).partition("?")[0]
        return {**found, **({"serving": serving} if serving else {})}

    @property
    def serving_given(self) -> str:
        """The serving database of one's own; empty for the stack's. It holds a password: never print it."""
        return self.serving_dsn.get_secret_value() if self.serving_dsn else ""

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
