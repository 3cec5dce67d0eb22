"""Settings of the service `streams`, from the `HEADWATER_*` environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from spark_streaming.storage.store_address import ObjectStore, SettingsError, load_store


class StreamSettings(BaseSettings):
    """What the service needs of Kafka, the store and the contracts."""

    model_config = SettingsConfigDict(env_prefix="HEADWATER_", extra="ignore", frozen=True)

    store: ObjectStore = Field(default_factory=load_store)
    kafka: str
    topic_prefix: str = "hw"
    topic_partitions: int = Field(default=1, ge=1, le=64)
    contracts_path: str = ""
    silver_retention_minutes: int = Field(default=15, ge=1)
    bind: str = "127.0.0.1"  # where metrics listen
    change_data_feed: str = ""
    streams_port: int = Field(default=14043, ge=0)
    # What one commit takes: its memory hangs on these two.
    streams_batch_events_max: int = Field(default=20_000, ge=1)
    streams_batch_mb_max: int = Field(default=32, ge=1)
    # Each commit is a file: a busy stream makes one a second, not one an event.
    streams_commit_ms: int = Field(default=1_000, ge=50)
    streams_log_level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"


def load_stream_settings() -> StreamSettings:
    """The settings of this process. Raises: SettingsError naming every variable that is wrong."""
    try:
        return StreamSettings()
    except ValidationError as error:
        messages = [
            f"setting HEADWATER_{str(problem['loc'][0]).upper()}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        hint = "hint: `headwater up` sets all of them for its services"
        raise SettingsError("\n".join([*messages, hint])) from None
