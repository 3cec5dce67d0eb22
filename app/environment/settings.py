"""The settings of one stack: its home, its ports, the source that it captures.

One stack is one home folder, with its settings in `settings.toml` and its generated secrets in
`secrets.json` (mode 0600). `HEADWATER_HOME`, `HEADWATER_PORT_OFFSET` and `HEADWATER_SERVING_DSN` override single values.
"""

from __future__ import annotations

import json
import os
import secrets as random_secrets
import string
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import tomli_w
from pydantic import SecretStr, ValidationError

from app.environment.dsn import query_of, with_user
from app.environment.keys.mistakes import mistakes
from app.environment.loopback import CA, trust
from app.environment.ports import Ports
from app.environment.profile import Profile
from app.environment.secret_variables import SECRETS
from app.environment.service_secrets import declared_secret
from app.environment.stamp import refuse_newer
from app.environment.toml_files import SettingsError, read_toml
from app.environment.trino_accounts import account_of, trino_url_of
from spark_streaming.job_settings import JobKeys
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.store_address import ObjectStore

SECRET_LENGTH = 32
ROOT = Path(__file__).resolve().parents[2]
STORE_ROLE = "headwater_store"
# Secrets that the profile may give; the DSNs among them are never generated.
_GIVEN = (
    "source_dsn", "capture_dsn", "s3_access_key", "s3_secret_key", "kafka_password",
    "connect_url", "trino_url", "superset_url", "prometheus_remote_write_url", "openlineage_url",
    "serving_dsn",
)  # fmt: skip
ONE_SOURCE = "HEADWATER_ONE_SOURCE"  # the further source that a process works for
_ALPHABET = string.ascii_letters + string.digits


class Settings:
    """The resolved settings of the stack at `home`; secrets are generated at first use."""

    def __init__(
        self, home: Path, profile: Profile, file: Path | None = None, source: str = ""
    ) -> None:
        self.home = home
        self.source = source  # the name of a further source; empty for the first
        self.connector = f"source_{source}" if source else "source"
        self.silver_schema = f"silver_{source}" if source else "silver"  # in Trino
        own = f"_{source.upper()}" if source else ""
        self.password_variable = f"HEADWATER_CAPTURE_PASSWORD{own}"
        self.file = file  # the profile that was given with the command
        self.profile = profile
        self.ports = Ports(profile)
        self.http = "https" if profile.encryption else "http"
        # Of all parts, or of Trino alone.
        self.own_authority = profile.encryption or profile.signed
        self.trino_http = "https" if self.own_authority else "http"
        self.tls = home / "tls"  # of the stack's own certificate authority

    def __repr__(self) -> str:
        return f"Settings(home={self.home})"

    def secret(self, name: str) -> str:
        """Return the secret `name`: the given one, or 32 alphanumerics generated at first use.

        Raises: HeadwaterError if the home belongs to one service that does not declare it.
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
        own = f"capture_password_{self.source}" if self.source else "capture_password"
        role, password = self.profile.capture_role, self.secret(own)
        return with_user(self.source_dsn, role, password)

    def _embedded_dsn(self, user: str, secret: str) -> str:
        address = self.ports.address("postgres")
        checked = f"?sslmode=verify-full&sslrootcert={quote(str(self.tls / CA))}"
        return f"postgresql://{user}:{self.secret(secret)}@{address}/store" + (
            checked if self.profile.encryption else ""
        )

    @property
    def kafka(self) -> KafkaCluster:
        """The brokers' addresses, and the log-in there; holds a password."""
        profile = self.profile
        if profile.kafka_address is None:
            addresses = self.ports.addresses("kafka", profile.kafka_brokers)
            if not profile.encryption:
                return KafkaCluster(addresses)
            password = self.secret("kafka_password")
            return KafkaCluster(
                addresses, "SASL_SSL", "PLAIN", "headwater", password, str(self.tls / CA)
            )
        asked = profile.kafka_security.startswith("SASL")
        return KafkaCluster(
            profile.kafka_address,
            profile.kafka_security,
            profile.kafka_mechanism if asked else "",
            profile.kafka_user or "",
            self.secret("kafka_password") if asked else "",
            profile.kafka_ca or "",
        )

    @property
    def connect_url(self) -> str:
        """Kafka Connect's REST interface; holds a password: never print it."""
        return self.connect_urls[0]

    @property
    def connect_urls(self) -> list[str]:
        """The REST interface of each Connect worker; any of them answers for all."""
        if self.profile.connect_url is not None:
            return [one.rstrip("/") for one in self.secret("connect_url").split(",")]
        addresses = self.ports.addresses("connect", self.profile.connect_workers).split(",")
        return [
            f"{self.http}://headwater:{self.secret('connect_password')}@{one}" for one in addresses
        ]

    @property
    def store(self) -> ObjectStore:
        """The object store's address; holds a secret key."""
        return ObjectStore(
            self.profile.s3_endpoint or f"{self.http}://{self.ports.address('s3')}",
            self.profile.s3_region,
            self.secret("s3_access_key"),
            self.secret("s3_secret_key"),
            self.profile.bronze_bucket,
            self.profile.lake_bucket,
            f"sources/{self.source}" if self.source else "",
        )

    @property
    def trino_url(self) -> str:
        """Trino's URL; that of your own Trino holds a password: never print it."""
        if self.profile.trino_url is not None:
            return self.secret("trino_url")
        return trino_url_of(self, account_of(os.environ.get("HEADWATER_SERVICE", "")))

    @property
    def _spark_master(self) -> str:
        """The master URL of the cluster where Spark's executors run."""
        if not self.profile.spark_workers:
            return self.profile.spark_master
        return f"spark://{self.ports.address('spark_master')}"

    @property
    def intake_url(self) -> str:
        return f"{self.http}://{self.ports.address('intake')}"

    @property
    def topic_prefix(self) -> str:
        return self.profile.topic_prefix

    @property
    def contracts_dir(self) -> Path:
        """The folder of the user's own contract files; it need not exist."""
        folder = self.home / Path(self.profile.contracts_dir or "contracts").expanduser()
        return folder / self.source if self.source else folder

    @property
    def contracts_folders(self) -> list[Path]:
        """The folders of contract files, the one that takes precedence first.

        Files in the repository belong to the demo store: another source may have tables of the same
        names.
        """
        shipped = ROOT / "spark_streaming" / "contracts"
        return (
            [self.contracts_dir, shipped] if self.profile.embedded_source else [self.contracts_dir]
        )

    def environment(
        self, secrets: Collection[str] = tuple(SECRETS), service: str = ""
    ) -> dict[str, str]:
        """The `HEADWATER_*` variables of this stack for a service or tool.

        Args:
            service: its name, by which Trino knows it; a tool has none.
            secrets: those of SECRETS whose variables are included; by default all of them.
        """
        withheld = {name for kind in set(SECRETS) - set(secrets) for name in SECRETS[kind]}
        if "capture" not in secrets:
            withheld |= {self.password_variable, *self._further_passwords()}
        every = self._environment()
        if self.profile.trino_here:
            every["HEADWATER_TRINO_URL"] = trino_url_of(self, account_of(service))
        return {k: v for k, v in every.items() if k not in withheld}

    def _further_passwords(self) -> dict[str, str]:
        """The further sources' passwords, for Connect, which runs the connectors of all sources."""
        return {
            one.password_variable: unquote(urlsplit(one.capture_dsn).password or "")
            for one in of_each_source(self)
            if one is not self
        }

    def _environment(self) -> dict[str, str]:
        keys = {
            f"HEADWATER_{name.upper()}": str(getattr(self.profile, name))
            for name in JobKeys.model_fields
        }
        return {
            **keys,
            "HEADWATER_HOME": str(self.home),
            **({ONE_SOURCE: self.source} if self.source else {}),
            "HEADWATER_FURTHER_SOURCES": ",".join(one.name for one in self.profile.sources),
            "HEADWATER_PORT_OFFSET": str(self.profile.port_offset),
            "HEADWATER_BIND": self.ports.bind,
            "HEADWATER_AUDIT": str(self.profile.audit),
            **(trust(self.tls) if self.own_authority else {}),
            "HEADWATER_SOURCE_DSN": self.source_dsn,
            "HEADWATER_STORE_DSN": self.store_dsn,
            "HEADWATER_CAPTURE_DSN": self.capture_dsn,
            # Also as a variable of its own, which a connector's configuration names instead of
            # holding it.
            self.password_variable: unquote(urlsplit(self.capture_dsn).password or ""),
            **self._further_passwords(),
            "HEADWATER_CAPTURE_SSL_PASSWORD": query_of(self.capture_dsn).get("sslpassword", ""),
            "HEADWATER_PUBLICATION": self.profile.publication_name,
            "HEADWATER_APPLY": "1" if self.profile.may_apply else "0",
            **self.kafka.variables(),
            "HEADWATER_CONNECT_URL": self.connect_url,
            **self.store.variables(),
            "HEADWATER_TRINO_URL": self.trino_url,
            "HEADWATER_OPENLINEAGE_URL": self.profile.lineage_receiver,
            "HEADWATER_SERVING_DSN": self.profile.serving_given,
            **(
                {"HEADWATER_ACCESS_FOLDER": str(self.home / "access")}
                if self.profile.signed
                else {}
            ),
            "HEADWATER_SPARK_MASTER": self._spark_master,  # the stack's own, if it has workers
            "HEADWATER_CONTRACTS_PATH": os.pathsep.join(map(str, self.contracts_folders)),
            "HEADWATER_MASK_SECRET": self.secret("mask_secret"),
        }

    def save(self) -> None:
        """Save the profile for later commands of this home (mode 0600: it may hold a DSN)."""
        assert not self.source, "a further source's settings are made from the home's"
        kept = self.profile.model_dump(exclude_none=True, mode="python")
        plain = {k: _plain(v) for k, v in kept.items()}
        write_private(self.home / "settings.toml", tomli_w.dumps(plain))


def load(home: Path | None = None, profile: Path | None = None, **overrides: object) -> Settings:
    """The settings of a home: defaults, its `settings.toml`, `profile`, environment, overrides.

    Args:
        home: the state folder; None means `HEADWATER_HOME` or `<clone>/.stack`.
        profile: a TOML file of Profile's keys.
        overrides: Profile's keys; None values are ignored.
    Afterwards this process trusts the stack's own certificates, if it has any.
    Raises: SettingsError for an unknown key or a wrong value, naming it and its file;
        HeadwaterError for the home of a newer Headwater.
    """
    folder = (home or home_folder()).expanduser().resolve()
    refuse_newer(folder)  # before its settings are read: they may have keys that are unknown here
    given: dict[str, object] = {}
    for path in (folder / "settings.toml", profile):
        if path is not None and (path.exists() or path is profile):
            given.update(read_toml(path))
    for key in ("port_offset", "serving_dsn"):
        if value := os.environ.get(f"HEADWATER_{key.upper()}"):
            given[key] = value
    given.update({k: v for k, v in overrides.items() if v is not None})
    origin = f"{profile or folder / 'settings.toml'} or its override"
    found = checked(
        folder, given, origin=origin, text=profile.read_text() if profile else "", file=profile
    )
    if found.own_authority:
        os.environ.update(trust(found.tls))
    one = os.environ.get(ONE_SOURCE)
    return of_source(found, one) if one else found


def home_folder() -> Path:
    """The current home: `HEADWATER_HOME`, else `.stack` in the clone."""
    return Path(os.environ.get("HEADWATER_HOME") or ROOT / ".stack").expanduser().resolve()


def of_each_source(settings: Settings) -> list[Settings]:
    """Return the settings and those of each further source; only themselves for a further source."""
    if settings.source:
        return [settings]
    return [settings, *(of_source(settings, one.name) for one in settings.profile.sources)]


def of_source(settings: Settings, name: str) -> Settings:
    """Return the settings of a further source of the home.

    Raises: SettingsError if there is no such source, or its address cannot be read.
    """
    one = Settings(settings.home, settings.profile.of_source(name), settings.file, name)
    one.ports = settings.ports
    return one


def place_of(settings: Settings, key: str) -> str:
    """Describe the place of a setting: `line 3 of own.toml`, or the home's file."""
    from spark_streaming.contract.toml_lines import key_lines

    names = [one.name for one in settings.profile.sources]
    keys = ("sources", names.index(settings.source), key) if settings.source else (key,)
    for path in (settings.file, settings.home / "settings.toml"):
        lines = key_lines(path.read_text()) if path is not None and path.exists() else {}
        if keys in lines:
            return f"line {lines[keys]} of {path}"
    return f"the environment (HEADWATER_{key.upper()})"


def only(profile: Path) -> None:
    """Check a profile by itself. Raises: SettingsError naming each mistake with its line."""
    checked(ROOT, read_toml(profile), origin=str(profile), text=profile.read_text())


def checked(
    home: Path,
    given: Mapping[str, object],
    *,
    origin: str,
    text: str = "",
    file: Path | None = None,
) -> Settings:
    """The settings of a home from these values of Profile's keys; errors name their `origin`.

    Args:
        text: the text of the file `origin`, to find the line of an error.
        file: the profile that was given with the command.
    Raises: SettingsError for an unknown key or a wrong value.
    """
    try:
        profile = Profile.model_validate(given)
    except ValidationError as error:
        raise SettingsError(mistakes(error, origin, text, Profile.model_fields)) from None
    return Settings(home, profile, file)


def write_private(path: Path, text: str) -> None:
    """Replace `path` atomically by `text`, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:  # if the disk is full, the old text stays, and no half file is left
        Path(temporary).unlink(missing_ok=True)
        raise


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else value
