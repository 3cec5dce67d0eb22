"""The settings that a user may put into a profile: each key with its type, default and meaning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from app.environment.keys.access_settings import AccessSettings
from app.environment.keys.alert_settings import AlertSettings
from app.environment.keys.further_source import FurtherSource
from app.environment.keys.kafka_settings import KafkaSettings
from app.environment.keys.metastore_settings import MetastoreSettings
from app.environment.keys.part_settings import PartSettings
from app.environment.keys.store_settings import StoreSettings
from app.environment.toml_files import NATIVE, SettingsError
from spark_streaming.contract.table_share import SEPARATOR, jobs_of
from spark_streaming.job_settings import JobKeys
from spark_streaming.tables.engines.choice import ENGINE_CHOICES

# A name that Postgres takes without quotes, also for a slot, and that leaves room for a suffix.
_NAME = r"^[a-z][a-z0-9_]{0,47}$"
_NAME_MAX = 48

# Values for templates that are derived from the keys.
DERIVED = (
    "replication_factor", "min_insync_replicas", "trino_coordinator_works", "trino_query_memory_mb",
    "spark_authenticates", "store_provider", "gcs_key_file", "silver_job_count",
)  # fmt: skip
TRINO_NODE_QUERY_MB = (
    400  # of a query on one node; with the other figures in trino/config.properties
)


class Profile(
    JobKeys,
    StoreSettings,
    KafkaSettings,
    MetastoreSettings,
    PartSettings,
    AlertSettings,
    AccessSettings,
):
    """What a user may set in `--profile FILE` (TOML); unknown keys are errors.

    Each key is declared once, here or in a base. Jobs get theirs as HEADWATER_* of
    `Settings.environment`, templates name theirs as `${setting.NAME}`. `make reference` writes a
    key's line of docker-compose.yml, and its row in docs/reference/settings.md from the text below
    it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    network: Annotated[Literal["loopback", "containers"], NATIVE] = "loopback"
    """Set by the stack: in `containers` each service has its own address, its name in compose."""
    source_dsn: SecretStr | None = None
    """The Postgres to capture, as `postgresql://…` of the tables' owner; unset: the embedded one with the
    demo store. `up --source` sets it."""
    capture_dsn: SecretStr | None = None
    """Another address or role for capturing, if `source_dsn` with the role `capture_role` does not fit."""
    apply: bool = False
    """Whether the stack may change your database and your object store: `up --apply` sets it."""
    sources: Annotated[tuple[FurtherSource, ...], NATIVE] = ()
    """Further databases in the same lake, as `[[sources]]` with `name`, `dsn` or `dsn_file`, and patterns as those of
    the first."""
    silver_jobs: Annotated[tuple[str, ...], NATIVE] = Field(default=(), max_length=8)
    """Further silver jobs, each with the tables that it takes from the first, as patterns `schema.table`:
    `["public.orders, public.order_*", "audit.*"]`. For sources with thousands of tables."""
    slot_name: str = Field(default="headwater", pattern=_NAME)
    """The replication slot in the source. A second stack on the same server needs a name of its own."""
    publication_name: str = Field(default="headwater", pattern=_NAME)
    """The publication in the source; each stack has its own."""
    capture_role: str = Field(default="headwater_capture", pattern=_NAME)
    """The role that captures; each stack has its own."""
    accept_source: str | None = Field(default=None, pattern=r"^\d+/\d+$")
    """`<system identifier>/<timeline>` of a server that replaces the one captured so far. The error
    that asks for it names both."""
    auto_recover: bool | None = None
    """Whether a stream whose slot is gone or lost is recovered without a command. Unset: only that of the
    embedded source, because the slot of your own database may have been dropped on purpose."""
    encryption: Annotated[bool, NATIVE] = False
    """Whether the parts of the stack reach each other under TLS and with log-ins: docs/security.md says which."""
    port_offset: Annotated[int, NATIVE] = Field(default=0, ge=0, le=40_000)
    """Added to every port, to run beside another stack."""
    ports: Annotated[dict[str, int], NATIVE] = Field(default_factory=dict)
    """Single ports by name, as `[ports]` with `trino = 18081`; the offset is not added to them."""
    published_ports: Annotated[dict[str, int], NATIVE] = Field(default_factory=dict)
    """Set by the stack in containers: service port to the port of this machine that leads there."""
    kafka_brokers: Annotated[int, NATIVE] = Field(default=1, ge=1, le=9)
    """Kafka brokers on this machine. From three on, each event is on three, and written when two have it."""
    connect_workers: Annotated[int, NATIVE] = Field(default=1, ge=1, le=9)
    """Kafka Connect workers on this machine; they share the connectors' tasks."""
    trino_workers: int = Field(default=0, ge=0, le=9)
    """Trino workers on this machine beside the coordinator; 0: the coordinator works too."""
    trino_retry_policy: Annotated[Literal["NONE", "QUERY", "TASK"], NATIVE] = "NONE"
    """What Trino with workers runs again when one of them is lost: nothing (the query fails), the query, or
    the task. Only `TASK` can run queries larger than one node's memory, but it slows small ones."""
    silver_heap_mb: int = Field(default=1024, ge=512)
    """Heap of the streaming job's driver, in MB."""
    spark_workers: int = Field(default=0, ge=0, le=9)
    """Workers of a Spark cluster on this machine, an executor of one core each; 0: silver's own process has
    the executors."""
    contracts_dir: Annotated[str | None, NATIVE] = None
    """The folder of your own contract files; a relative path starts at the home. Unset: `contracts` there."""
    dashboards: Annotated[bool, NATIVE] = False
    """Whether Superset runs; `up --dashboards` sets it."""
    jobs: bool = False
    """Whether jobs run, by Dagster; `up --jobs` sets it."""
    tracking: Annotated[bool, NATIVE] = False
    """Whether runs of models are kept in MLflow, where jobs run: docs/models.md."""
    audit: Annotated[bool, NATIVE] = False
    """Whether every query to Trino is recorded in `ops.audit`, with the tables and columns that it read:
    docs/governance.md."""

    @field_validator("merge_engine")
    @classmethod
    def _known_engine(cls, name: str) -> str:
        if name not in ENGINE_CHOICES:
            raise ValueError(f"{name!r} is none of {', '.join(ENGINE_CHOICES)}")
        return name

    @model_validator(mode="after")
    def _audit_is_of_this_trino(self) -> Profile:
        if self.audit and not self.trino_here:
            raise ValueError("audit: a Trino of your own (`trino_url`) keeps its own; leave it out")
        return self

    @model_validator(mode="after")
    def _silver_jobs_have_tables(self) -> Profile:
        if self.silver_jobs and self.sources:
            raise ValueError(
                "silver_jobs: a home with [[sources]] has one silver job for each of them"
            )
        jobs_of(SEPARATOR.join(self.silver_jobs))
        return self

    @model_validator(mode="after")
    def _signed_is_of_the_stacks_own_trino(self) -> Profile:
        if self.signed and not self.trino_here:
            raise ValueError("access = signed is for the stack's own Trino: leave trino_url out")
        if self.signed and self.sources:
            raise ValueError("access = signed is for homes without [[sources]]")
        return self

    @model_validator(mode="after")
    def _sources_have_names_of_their_own(self) -> Profile:
        names = [one.name for one in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"several sources are named {', '.join(twice)}: each needs its own")
        for name in names:
            if len(f"{self.slot_name}_{name}") > _NAME_MAX:
                raise ValueError(
                    f"slot_name and the source's name `{name}` are too long together for a slot"
                )
        return self

    @classmethod
    def container_keys(cls) -> list[str]:
        """Return the keys that a user may set for containers, as HEADWATER_* of the environment file."""
        return [name for name, field in cls.model_fields.items() if NATIVE not in field.metadata]

    @property
    def in_containers(self) -> bool:
        """Whether Docker Compose runs this stack; there is no supervisor then."""
        return self.network == "containers"

    @property
    def replication_factor(self) -> int:
        """The number of brokers that have each topic; -1 uses the default of your own Kafka."""
        return min(3, self.kafka_brokers) if self.embedded_kafka else -1

    @property
    def min_insync_replicas(self) -> int:
        """How many brokers must have an event before its writer gets the acknowledgement."""
        return max(1, self.replication_factor - 1)

    @property
    def spark_authenticates(self) -> str:
        """Whether Spark's processes ask each other for the secret: `true` or `false`."""
        return "true" if self.spark_workers else "false"

    @property
    def silver_job_count(self) -> int:
        """How many silver jobs share the tables."""
        return 1 + len(self.silver_jobs)

    @property
    def trino_coordinator_works(self) -> str:
        """Whether queries run on Trino's coordinator: `true` or `false`."""
        return "false" if self.trino_workers else "true"

    @property
    def trino_query_memory_mb(self) -> int:
        """The memory that a query may have on all of Trino's nodes."""
        return TRINO_NODE_QUERY_MB * max(1, self.trino_workers)

    def of_source(self, name: str) -> Profile:
        """Return the profile of a further source, with its address and its own names.

        Raises: SettingsError if there is no such source, or its address cannot be read.
        """
        found = next((one for one in self.sources if one.name == name), None)
        if found is None:
            known = ", ".join(one.name for one in self.sources) or "none"
            raise SettingsError(
                f"there is no source `{name}`\nhint: further sources of this home: {known}"
            )
        try:
            address = found.address
        except ValueError as error:
            raise SettingsError(str(error)) from None
        return self.model_copy(
            update={
                "source_dsn": address,
                "capture_dsn": None,
                "slot_name": f"{self.slot_name}_{name}",
                "publication_name": f"{self.publication_name}_{name}",
                "capture_role": f"{self.capture_role}_{name}",
                "topic_prefix": f"{self.topic_prefix}_{name}",
                "accept_source": None,
                **{
                    key: getattr(found, key)
                    for key in ("table_include", "table_exclude", "column_exclude")
                },
            }
        )

    @property
    def embedded_source(self) -> bool:
        return self.source_dsn is None

    @property
    def may_apply(self) -> bool:
        """Whether the source may be changed (role, publication): always for the embedded one."""
        return self.embedded_source or self.apply

    @property
    def recovers_unasked(self) -> bool:
        """Whether a lost slot is created again, and its tables resynced, without a command."""
        return self.embedded_source if self.auto_recover is None else self.auto_recover

    def own_table(self, name: str) -> str:
        """This stack's table `heartbeat` or `signal` in the source's schema `headwater`.

        Stacks that share a source have their own, named after their slots.
        """
        default = Profile.model_fields["slot_name"].default
        return name if self.slot_name == default else f"{name}_{self.slot_name}"

    def flag(self, name: str) -> bool:
        """The boolean that a service's `when` names."""
        flags = {
            "embedded_source": self.embedded_source,
            "embedded_s3": self.embedded_s3,
            "embedded_kafka": self.embedded_kafka,
            "may_apply": self.may_apply,
            "connect_here": self.connect_here,
            "trino_here": self.trino_here,
            "dashboards": self.dashboards,
            "superset_here": self.dashboards and self.superset_url is None,
            "jobs": self.jobs,
            "tracking": self.tracking and self.jobs,
            "audit": self.audit,
            "spark_cluster": self.spark_workers > 0,
            "hive_service": self.hive_service and self.trino_here,
        }
        if name not in flags:
            raise SettingsError(f"unknown setting `{name}`\nhint: known are {', '.join(flags)}")
        return flags[name]

    def value(self, name: str) -> str:
        """The setting that a template names as `${setting.NAME}`, as text."""
        known = name in Profile.model_fields or name in DERIVED
        found = getattr(self, name) if known else None
        if isinstance(found, tuple) and all(isinstance(one, str) for one in found):
            return SEPARATOR.join(found)
        if isinstance(found, (str, int)):
            return str(found)
        raise SettingsError(f"unknown setting `{name}` in a template")
