"""The settings that a user may put into a profile: each key with its type, default and meaning."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, SecretStr

from app.environment.alert_settings import AlertSettings
from app.environment.toml_files import SettingsError
from spark_streaming.tables.engines.choice import ENGINE_CHOICES

# A name that Postgres takes without quotes, also for a slot, and that leaves room for a suffix.
_NAME = r"^[a-z][a-z0-9_]{0,47}$"

# What follows from the keys, for templates.
DERIVED = (
    "replication_factor", "min_insync_replicas", "trino_coordinator_works", "trino_query_memory_mb",
    "spark_authenticates",
)  # fmt: skip
TRINO_NODE_QUERY_MB = (
    400  # of a query on one node; with the other figures in trino/config.properties
)


class Profile(AlertSettings):
    """What a user may set in `--profile FILE` (TOML); unknown keys are errors.

    The text below a key is its row in docs/reference/settings.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    network: Literal["loopback", "containers"] = "loopback"
    """Set by the stack: in `containers` every service has an address of its own, its name in compose."""
    source_dsn: SecretStr | None = None
    """The Postgres to capture, as `postgresql://…` of the tables' owner; unset: the embedded one with the
    demo store. `up --source` sets it."""
    capture_dsn: SecretStr | None = None
    """Another address or role for capturing, where `source_dsn` with the role `capture_role` is not right."""
    apply: bool = False
    """Whether the stack may change your database and your object store: `up --apply` sets it."""
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
    port_offset: int = Field(default=0, ge=0, le=40_000)
    """Added to every port, to run beside another stack."""
    ports: dict[str, int] = Field(default_factory=dict)
    """Single ports by name, as `[ports]` with `trino = 18081`; the offset is not added to them."""
    published_ports: dict[str, int] = Field(default_factory=dict)
    """Set by the stack in containers: service port to the port of this machine that leads there."""
    topic_prefix: str = Field(default="hw", pattern=r"^[a-z][a-z0-9_]{0,30}$")
    """The first part of every topic's name."""
    topic_partitions: int = Field(default=1, ge=1, le=64)
    """Partitions of the topic of each table with a key. A topic that exists keeps what it has."""
    s3_endpoint: str | None = None
    """URL of an object store of your own; unset: the embedded one."""
    s3_region: str = "us-east-1"
    """Region of that store."""
    s3_access_key: SecretStr | None = None
    """Its access key."""
    s3_secret_key: SecretStr | None = None
    """Its secret key."""
    bronze_bucket: str = "bronze"
    """The bucket of every event, raw."""
    lake_bucket: str = "lake"
    """The bucket of the Delta tables."""
    kafka_brokers: int = Field(default=1, ge=1, le=9)
    """Kafka brokers on this machine. From three on, each event is on three, and written when two have it."""
    connect_workers: int = Field(default=1, ge=1, le=9)
    """Kafka Connect workers on this machine; they share the connectors' tasks."""
    trino_workers: int = Field(default=0, ge=0, le=9)
    """Trino workers on this machine beside the coordinator; 0: the coordinator works too."""
    trino_retry_policy: Literal["NONE", "QUERY", "TASK"] = "NONE"
    """What Trino with workers runs again when one of them is lost: nothing (the query fails), the query, or
    the task. Only `TASK` carries on queries larger than one node's memory, and slows small ones."""
    merge_engine: str = Field(default="auto", pattern=rf"^({'|'.join(ENGINE_CHOICES)})$")
    """`delta-rs` or `spark` forces one engine for all merges; `auto` chooses by size."""
    silver_heap_mb: int = Field(default=1024, ge=512)
    """Heap of the streaming job's driver, in MB."""
    spark_master: str = "local[2]"
    """Where Spark's executors run, where there are no `spark_workers`."""
    spark_workers: int = Field(default=0, ge=0, le=9)
    """Workers of a Spark cluster on this machine, an executor of one core each; 0: silver's own process has
    the executors."""
    spark_executor_mb: int = Field(default=768, ge=512)
    """Heap of an executor of that cluster, in MB."""
    spark_merge_rows_min: int = Field(default=250_000, ge=1)
    """Changes of a table in a batch from which `auto` has Spark's executors fold and merge them."""
    silver_retention_minutes: int = Field(default=15, ge=1)
    """How long files of old table versions stay, in minutes: the longest that a query may read one."""
    change_data_feed: str = ""
    """Silver tables, streams too, that record their changes for readers: `orders, ratings`, or `*`."""
    contracts_dir: str | None = None
    """The folder of your own contract files; a relative path starts at the home. Unset: `contracts` there."""
    dashboards: bool = False
    """Whether Superset runs; `up --dashboards` sets it."""

    @property
    def in_containers(self) -> bool:
        """Whether Docker Compose runs this stack; there is no supervisor then."""
        return self.network == "containers"

    @property
    def replication_factor(self) -> int:
        """On how many brokers each topic is."""
        return min(3, self.kafka_brokers)

    @property
    def min_insync_replicas(self) -> int:
        """How many brokers must have an event before its writer is told so."""
        return max(1, self.replication_factor - 1)

    @property
    def spark_authenticates(self) -> str:
        """Whether Spark's processes ask each other for the secret, as its configuration writes it."""
        return "true" if self.spark_workers else "false"

    @property
    def trino_coordinator_works(self) -> str:
        """Whether queries run on Trino's coordinator, as its configuration writes it."""
        return "false" if self.trino_workers else "true"

    @property
    def trino_query_memory_mb(self) -> int:
        """The memory that a query may have on all of Trino's nodes."""
        return TRINO_NODE_QUERY_MB * max(1, self.trino_workers)

    @property
    def embedded_source(self) -> bool:
        return self.source_dsn is None

    @property
    def embedded_s3(self) -> bool:
        return self.s3_endpoint is None

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
            "may_apply": self.may_apply,
            "dashboards": self.dashboards,
            "spark_cluster": self.spark_workers > 0,
        }
        if name not in flags:
            raise SettingsError(f"unknown setting `{name}`\nhint: known are {', '.join(flags)}")
        return flags[name]

    def value(self, name: str) -> str:
        """The setting that a template names as `${setting.NAME}`, as text."""
        known = name in Profile.model_fields or name in DERIVED
        found = getattr(self, name) if known else None
        if isinstance(found, (str, int)):
            return str(found)
        raise SettingsError(f"unknown setting `{name}` in a template")
