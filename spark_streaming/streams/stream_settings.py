"""Settings of the service `streams`, from the `HEADWATER_*` environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from spark_streaming.job_settings import JobSettings


class StreamSettings(JobSettings):
    """All settings of `python -m spark_streaming.streams.streams_job`."""

    streams_port: int = Field(default=14043, ge=0)
    # The limits of one commit; its memory depends on these two.
    streams_batch_events_max: int = Field(default=20_000, ge=1)
    streams_batch_mb_max: int = Field(default=32, ge=1)
    # Each commit is a file: with this pause a busy stream makes one a second, not one per event.
    streams_commit_ms: int = Field(default=1_000, ge=50)
    # Whether the audit of Trino's questions is written, and Trino's address, which it asks for its newest number.
    writes_audit: bool = Field(default=False, validation_alias="HEADWATER_AUDIT")
    audited_trino: str = ""
    # The folder of the stack, whose `access.toml` the audit watches.
    home: Path | None = None
    streams_log_level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"
