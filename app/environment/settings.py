"""The settings of one stack: its home, its ports, the source that it captures.

One stack is one home folder, with its settings in `settings.toml` and its generated secrets in
`secrets.json` (mode 0600). Environment variables override single values:
`HEADWATER_HOME`, `HEADWATER_PORT_OFFSET`.
"""

from __future__ import annotations

import json
import os
import secrets as random_secrets
import string
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import tomli_w
from pydantic import SecretStr, ValidationError

from app.environment.dsn import query_of, with_user
from app.environment.ports import Ports
from app.environment.profile import Profile
from app.environment.secret_variables import SECRETS
from app.environment.service_secrets import declared_secret
from app.environment.stamp import refuse_newer
from app.environment.toml_files import SettingsError, read_toml
from spark_streaming.storage.store_address import ObjectStore

SECRET_LENGTH = 32
ROOT = Path(__file__).resolve().parents[2]
STORE_ROLE = "headwater_store"
# Secrets that the profile may give; of these, the DSNs are never made.
_GIVEN = ("source_dsn", "capture_dsn", "s3_access_key", "s3_secret_key")
_ALPHABET = string.ascii_letters + string.digits


class Settings:
    """The resolved settings of the stack at `home`; secrets are generated at first use."""

    def __init__(self, home: Path, profile: Profile) -> None:
        self.home = home
        self.profile = profile
        self.ports = Ports(profile)

    def __repr__(self) -> str:
        return f"Settings(home={self.home})"

    def secret(self, name: str) -> str:
        """Return the secret `name`: given, or 32 alphanumerics made at first use, kept in `secrets.json`.

        Raises: HeadwaterError where the home is one service's, which does not declare it.
        """
        declared = declared_secret(self.home, name)
        if declared is not None:
            return declared
        if name in _GIVEN:
            given: SecretStr | None = getattr(self.profile, name)
            if given is not None:
                return given.get_secret_value()
        path = self.home / "secrets.json"
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        if name not in known:
            known[name] = "".join(random_secrets.choice(_ALPHABET) for _ in range(SECRET_LENGTH))
            write_private(path, json.dumps(known, indent=1))
        return known[name]

    @property
    def source_dsn(self) -> str:
        """libpq URL of the owner of the source's tables; holds a password: never print it."""
        if self.profile.source_dsn is not None:
            return self.secret("source_dsn")
        return self._embedded_dsn("headwater", "postgres_password")

    @property
    def store_dsn(self) -> str:
        """libpq URL of the role that works on the rows: the demo store's owner, no superuser, or
        the owner of your own source's tables; holds a password."""
        if self.profile.source_dsn is not None:
            return self.source_dsn
        return self._embedded_dsn(STORE_ROLE, "store_password")

    @property
    def capture_dsn(self) -> str:
        """libpq URL of the least-privilege role that captures; holds a password."""
        if self.profile.capture_dsn is not None:
            return self.secret("capture_dsn")
        if self.profile.source_dsn is None:
            return self._embedded_dsn(self.profile.capture_role, "capture_password")
        role, password = self.profile.capture_role, self.secret("capture_password")
        return with_user(self.source_dsn, role, password)

    def _embedded_dsn(self, user: str, secret: str) -> str:
        address = self.ports.address("postgres")
        return f"postgresql://{user}:{self.secret(secret)}@{address}/store"

    @property
    def kafka(self) -> str:
        """The brokers' addresses, with commas."""
        return self.ports.addresses("kafka", self.profile.kafka_brokers)

    @property
    def connect_url(self) -> str:
        """Kafka Connect's REST interface; holds a password: never print it."""
        return self.connect_urls[0]

    @property
    def connect_urls(self) -> list[str]:
        """The REST interface of each Connect worker; any of them answers for all."""
        addresses = self.ports.addresses("connect", self.profile.connect_workers).split(",")
        return [f"http://headwater:{self.secret('connect_password')}@{one}" for one in addresses]

    @property
    def store(self) -> ObjectStore:
        """The object store's address; holds a secret key."""
        return ObjectStore(
            self.profile.s3_endpoint or f"http://{self.ports.address('s3')}",
            self.profile.s3_region,
            self.secret("s3_access_key"),
            self.secret("s3_secret_key"),
            self.profile.bronze_bucket,
            self.profile.lake_bucket,
        )

    @property
    def trino_url(self) -> str:
        return f"http://{self.ports.address('trino')}"

    @property
    def _spark_master(self) -> str:
        """Where Spark's executors run."""
        if not self.profile.spark_workers:
            return self.profile.spark_master
        return f"spark://{self.ports.address('spark_master')}"

    @property
    def intake_url(self) -> str:
        return f"http://{self.ports.address('intake')}"

    @property
    def topic_prefix(self) -> str:
        return self.profile.topic_prefix

    @property
    def contracts_dir(self) -> Path:
        """The folder of the user's own contract files; it need not exist."""
        return self.home / Path(self.profile.contracts_dir or "contracts").expanduser()

    @property
    def contracts_folders(self) -> list[Path]:
        """The folders of contract files, the one that counts first.

        Those in the repository are the demo store's: another source may have tables of its names.
        """
        shipped = ROOT / "spark_streaming" / "contracts"
        return (
            [self.contracts_dir, shipped] if self.profile.embedded_source else [self.contracts_dir]
        )

    def environment(self, secrets: Collection[str] = tuple(SECRETS)) -> dict[str, str]:
        """The `HEADWATER_*` variables of this stack for a service or tool.

        Args:
            secrets: of SECRETS, those whose variables come along; all of them by default.
        """
        withheld = {name for kind in set(SECRETS) - set(secrets) for name in SECRETS[kind]}
        return {k: v for k, v in self._environment().items() if k not in withheld}

    def _environment(self) -> dict[str, str]:
        return {
            "HEADWATER_HOME": str(self.home),
            "HEADWATER_PORT_OFFSET": str(self.profile.port_offset),
            "HEADWATER_BIND": self.ports.bind,
            "HEADWATER_TOPIC_PREFIX": self.topic_prefix,
            "HEADWATER_TOPIC_PARTITIONS": str(self.profile.topic_partitions),
            "HEADWATER_SOURCE_DSN": self.source_dsn,
            "HEADWATER_STORE_DSN": self.store_dsn,
            "HEADWATER_CAPTURE_DSN": self.capture_dsn,
            # By itself too: a connector's configuration names it, and never holds it.
            "HEADWATER_CAPTURE_PASSWORD": unquote(urlsplit(self.capture_dsn).password or ""),
            "HEADWATER_CAPTURE_SSL_PASSWORD": query_of(self.capture_dsn).get("sslpassword", ""),
            "HEADWATER_PUBLICATION": self.profile.publication_name,
            "HEADWATER_APPLY": "1" if self.profile.may_apply else "0",
            "HEADWATER_KAFKA": self.kafka,
            "HEADWATER_CONNECT_URL": self.connect_url,
            **self.store.variables(),
            "HEADWATER_TRINO_URL": self.trino_url,
            "HEADWATER_MERGE_ENGINE": self.profile.merge_engine,
            "HEADWATER_SPARK_MASTER": self._spark_master,
            "HEADWATER_SPARK_EXECUTOR_MB": str(self.profile.spark_executor_mb),
            "HEADWATER_SPARK_MERGE_ROWS_MIN": str(self.profile.spark_merge_rows_min),
            "HEADWATER_CONTRACTS_PATH": os.pathsep.join(map(str, self.contracts_folders)),
            "HEADWATER_MASK_SECRET": self.secret("mask_secret"),
            "HEADWATER_SILVER_RETENTION_MINUTES": str(self.profile.silver_retention_minutes),
            "HEADWATER_CHANGE_DATA_FEED": self.profile.change_data_feed,
        }

    def save(self) -> None:
        """Keep the profile for later commands of this home (mode 0600: it may hold a DSN)."""
        kept = self.profile.model_dump(exclude_none=True, mode="python")
        plain = {k: _plain(v) for k, v in kept.items()}
        write_private(self.home / "settings.toml", tomli_w.dumps(plain))


def load(home: Path | None = None, profile: Path | None = None, **overrides: object) -> Settings:
    """The settings of a home: defaults, its `settings.toml`, `profile`, environment, overrides.

    Args:
        home: the state folder; `HEADWATER_HOME` or `<clone>/.stack` when None.
        profile: a TOML file of Profile's keys.
        overrides: Profile's keys; None values are ignored.
    Raises: SettingsError for an unknown key or a wrong value, naming it and its file; HeadwaterError
        for the home of a newer Headwater.
    """
    folder = home or Path(os.environ.get("HEADWATER_HOME") or ROOT / ".stack")
    folder = folder.expanduser().resolve()
    refuse_newer(folder)  # before its settings are read: they may have keys that are unknown here
    given: dict[str, object] = {}
    for path in (folder / "settings.toml", profile):
        if path is not None and (path.exists() or path is profile):
            given.update(read_toml(path))
    offset = os.environ.get("HEADWATER_PORT_OFFSET")
    if offset:
        given["port_offset"] = offset
    given.update({k: v for k, v in overrides.items() if v is not None})
    return checked(folder, given, origin=f"{profile or folder / 'settings.toml'} or its override")


def checked(home: Path, given: Mapping[str, object], *, origin: str) -> Settings:
    """The settings of a home from these values of Profile's keys; errors name `origin`, where they are written.

    Raises SettingsError for an unknown key or a wrong value.
    """
    try:
        profile = Profile.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_explain(error, origin)) from None
    return Settings(home, profile)


def write_private(path: Path, text: str) -> None:
    """Replace `path` atomically by `text`, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:  # on a full disk the old text stays, without half a file beside it
        Path(temporary).unlink(missing_ok=True)
        raise


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in problem["loc"])
        lines.append(f"setting `{key}`: {problem['msg']} (in {origin})")
    return "\n".join(lines) + f"\nhint: known settings are {', '.join(Profile.model_fields)}"


def _plain(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
