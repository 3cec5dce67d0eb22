"""The settings of the jobs `silver` and `streams`, read from the `HEADWATER_*` environment of a service."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from spark_streaming.storage.store_address import ObjectStore, SettingsError, load_store


class JobSettings(BaseSettings):
    """What each job needs of the store, Kafka and the contracts."""

    model_config = SettingsConfigDict(env_prefix="HEADWATER_", extra="ignore", frozen=True)

    store: ObjectStore = Field(default_factory=load_store)
    kafka: str
    topic_prefix: str = "hw"
    # Folders of contract files, separated as in PATH; the first one's file of a table counts.
    contracts_path: str = ""
    # Each small merge rewrites a file, so old versions are the larger part of a busy table:
    # kept as long as the longest reader needs its snapshot, not for time travel.
    silver_retention_minutes: int = Field(default=15, ge=1)
    # Silver tables, separated by commas, or `*`: see `change_feed`.
    change_data_feed: str = ""
    bind: str = "127.0.0.1"  # where metrics and Spark's UI listen


Job = TypeVar("Job", bound=JobSettings)


class SilverSettings(JobSettings):
    """All settings of `python -m spark_streaming.job`."""

    # Where the service keeps what is not in the lake: the query's checkpoint, Spark's scratch.
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

    # DEBUG: one line a batch with the time of each step.
    log_level: Literal["DEBUG", "INFO", "WARNING"] = Field(
        default="INFO", validation_alias="HEADWATER_SILVER_LOG_LEVEL"
    )

    # See `tables/engines/choice.py`.
    merge_engine: str = "auto"
    # From this many events of one table in a batch on, `auto` has Spark's executors fold them and
    # Spark merge them; below, its fixed cost is larger than what the driver needs in all.
    spark_merge_rows_min: int = Field(default=250_000, ge=1)
    # What the driver reads, folds and merges at once, in offsets and in megabytes of events: its
    # memory hangs on these two alone.
    small_batch_offsets_max: int = Field(default=50_000, ge=1)
    small_batch_mb_max: int = Field(default=64, ge=1)
    # A limit on the time of one batch, during which small tables wait, not on memory.
    batch_offsets_max: int = Field(default=300_000, ge=1)
    batch_mb_max: int = Field(default=1024, ge=1)
    merge_threads: int = Field(default=8, ge=1, le=64)

    spark_master: str = "local[2]"
    # Of a standalone cluster (`spark://…`); elsewhere the driver's process has them.
    spark_executor_mb: int = Field(default=768, ge=512)
    spark_heap_mb: int = Field(default=1024, ge=512)
    spark_ui_port: int = Field(default=14040, ge=0)
    metrics_port: int = Field(default=14041, ge=0)
    # How long an idle query waits before it asks Kafka for new offsets: half of it is added to
    # the median freshness of a quiet source (a busy one never waits), and each question costs
    # about 5 ms of CPU.
    polling_delay_ms: int = Field(default=100, ge=1)

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
