"""The settings of the jobs `silver` and `streams`, read from the `HEADWATER_*` environment of a service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from spark_streaming.capture_choice import ALL_TABLES, patterns
from spark_streaming.storage.kafka_cluster import KafkaCluster, kafka_of
from spark_streaming.storage.store_address import ObjectStore, SettingsError, load_store


class JobKeys(BaseModel):
    """The keys of a profile that a job reads as they are; `app.environment.profile.Profile` has them too.

    A job gets the key `merge_engine` as HEADWATER_MERGE_ENGINE. The text below a key is its row in
    docs/reference/settings.md.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    topic_prefix: str = Field(default="hw", pattern=r"^[a-z][a-z0-9_]{0,30}$")
    """The first part of every topic's name."""
    table_include: str = ALL_TABLES
    """The source's tables that are captured, as patterns `schema.table` with commas between them: `*` is any
    run of characters, `?` one character, and case counts. Unset: all."""
    table_exclude: str = ""
    """Tables that are not captured, of those: `public.log_*, audit.*`."""
    column_exclude: str = ""
    """Columns that are left out, as patterns `schema.table.column`: `public.users.password*`. Kafka, bronze
    and silver never have them. No column of a key."""
    topic_partitions: int = Field(default=1, ge=1, le=64)
    """Partitions of the topic of each table with a key. An existing topic keeps its number of partitions."""
    # Its values: `tables/engines/choice.py`.
    merge_engine: str = "auto"
    """`delta-rs` or `spark` forces one engine for all merges; `auto` chooses by size."""
    # What executors cost beside the driver alone: `tests/bench/README.md`, backlog.
    spark_merge_rows_min: int = Field(default=0, ge=0)
    """Changes of a table in a batch from which `auto` has Spark's executors fold and merge them. 0: 250,000 on a
    cluster; never on one machine, where the driver alone is faster."""
    spark_master: str = "local[2]"
    """Where Spark's executors run, where there are no `spark_workers`."""
    spark_executor_mb: int = Field(default=768, ge=512)
    """Heap of an executor of a cluster of `spark_workers`, in MB."""
    # Each small merge rewrites a file, so old versions are the larger part of a busy table.
    silver_retention_minutes: int = Field(default=15, ge=1)
    """How long every old version of a table can be read, in minutes; behind that some, by `[time_travel]`."""
    # The budget is by design, not by measurement: `spark_streaming/batch/README.md`.
    maintenance_budget_ms: int = Field(default=1000, ge=50, le=60_000)
    """How long tables are maintained after each batch, in milliseconds, beside the next one; the rest waits."""
    bronze_keep_days: int = Field(default=0, ge=0)
    """Days after which events are deleted from bronze; nothing can be rebuilt from before. 0: bronze keeps everything."""
    change_data_feed: str = ""
    """Silver tables, streams too, that record their changes for readers: `orders, ratings`, or `*`."""

    @field_validator("table_include", "table_exclude", "column_exclude")
    @classmethod
    def _are_patterns(cls, text: str, given: ValidationInfo) -> str:
        found = patterns(text, parts=3 if given.field_name == "column_exclude" else 2)
        if given.field_name == "table_include" and not found:
            raise ValueError(f"it names no table; leave it out, or set `{ALL_TABLES}`")
        return text


class JobSettings(JobKeys, BaseSettings):
    """What each job needs of the store, Kafka and the contracts."""

    model_config = SettingsConfigDict(env_prefix="HEADWATER_", extra="ignore", frozen=True)

    store: ObjectStore = Field(default_factory=load_store)
    # HEADWATER_KAFKA has the addresses, the variables beside it the log-in.
    kafka: Annotated[KafkaCluster, NoDecode]
    # Folders of contract files, separated as in PATH; the first one's file of a table counts.
    contracts_path: str = ""
    bind: str = "127.0.0.1"  # where metrics and Spark's UI listen

    @field_validator("kafka", mode="before")
    @classmethod
    def _with_log_in(cls, given: object) -> object:
        return (
            kafka_of({**os.environ, "HEADWATER_KAFKA": given}) if isinstance(given, str) else given
        )


Job = TypeVar("Job", bound=JobSettings)


class SilverSettings(JobSettings):
    """All settings of `python -m spark_streaming.job`."""

    # The folder for files that are not in the lake: the query's checkpoint, Spark's scratch.
    data: Path = Field(validation_alias="HEADWATER_SILVER_DATA")
    # A URL (s3a://…) where several machines must find it; a folder below `data` otherwise: a
    # local commit costs a third of one on S3, and the lake's transaction ids make a lost or
    # repeated checkpoint harmless either way.
    checkpoint: str = Field(default="", validation_alias="HEADWATER_SILVER_CHECKPOINT")

    capture_dsn: SecretStr
    # Its tables are silver's before their first event. Empty: with it.
    publication: str = ""

    # The key of the `hash` mask. Another key makes other hashes: equal values stop being equal.
    mask_secret: SecretStr = SecretStr("")

    # Which of several jobs this is, and the tables of the others: `contract/table_share.py`.
    silver_job: int = Field(default=1, ge=1)
    silver_shares: str = ""

    # DEBUG: one line a batch with the time of each step.
    log_level: Literal["DEBUG", "INFO", "WARNING"] = Field(
        default="DEBUG", validation_alias="HEADWATER_SILVER_LOG_LEVEL"
    )

    # What the driver reads, folds and merges at once, in offsets and in megabytes of events: its
    # memory hangs on these two alone.
    small_batch_offsets_max: int = Field(default=50_000, ge=1)
    small_batch_mb_max: int = Field(default=64, ge=1)
    # A limit on the time of one batch, during which small tables wait, not on memory.
    batch_offsets_max: int = Field(default=300_000, ge=1)
    batch_mb_max: int = Field(default=1024, ge=1)
    merge_threads: int = Field(default=8, ge=1, le=64)

    spark_heap_mb: int = Field(default=1024, ge=512)
    # Where executors that are processes of their own reach the driver.
    spark_driver_host: str = "127.0.0.1"
    spark_ui_port: int = Field(default=14040, ge=0)
    metrics_port: int = Field(default=14041, ge=0)
    # How long an idle query pauses before it asks Kafka for new offsets again. A question costs about 5 ms of CPU,
    # but if there is nothing new the source itself waits for events (`WaitingStream.java`).
    polling_delay_ms: int = Field(default=10, ge=1)

    @property
    def checkpoint_url(self) -> str:
        return self.checkpoint or file_url(self.data / "checkpoint")


def file_url(path: Path) -> str:
    """A local folder as Spark takes one: with its characters as they are. Hadoop reads `%20` as a
    name that has `%20` in it."""
    return f"file://{path.absolute()}"


def load_settings(job: type[Job]) -> Job:
    """The settings of this process. Raises SettingsError naming every variable that is wrong."""
    try:
        return job()
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0])
        name = name if name.startswith("HEADWATER_") else f"HEADWATER_{name.upper()}"
        lines.append(f"setting {name}: {problem['msg']}")
    return "\n".join(lines) + "\nhint: `headwater up` sets all of them for its services"
