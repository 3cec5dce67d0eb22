"""The measured figures that sizes are computed from, each with its source: `coefficients.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.environment.toml_files import SettingsError, read_toml

COEFFICIENTS = Path(__file__).with_name("coefficients.toml")
Model = TypeVar("Model", bound=BaseModel)


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Closed):
    """A measured value; `source` is the measurement, or the reason of an assumption."""

    value: float = Field(ge=0)
    source: str = Field(min_length=10)


class Part(_Closed):
    """What one part of the stack takes. CPU is user and system time."""

    idle_cores: Figure
    cpu_s_per_million_changes: Figure
    cpu_ms_per_request: Figure | None = None  # of the object store
    memory_mib: Figure
    # The highest rate measured for one instance; None if only its CPU limits it.
    changes_per_second_max: Figure | None = None
    scales: bool  # whether a second instance takes half of the work
    remedy: str  # what to do when one instance is full


class Batches(_Closed):
    """Silver's micro-batches, which run one after another."""

    fixed_s: Figure  # from batch to batch, whatever is in it
    fixed_cpu_s: Figure
    change_s: Figure  # decode, fold and merge of one more change
    table_s: Figure  # a merge into one table, beside others: most of it waits for the store
    table_cpu_s: Figure
    rewritten_mb_cpu_s: Figure  # for each megabyte of Parquet that a merge writes again
    threads_max: Figure  # merges at the same time, if there are enough cores


class Bytes(_Closed):
    """A change on disk, at `row_bytes`; each further byte of the row counts whole.

    Part of the remaining cost is paid once for all that arrives together: a topic's records of one
    poll of the connector, an object of bronze.
    """

    row_bytes: Figure
    poll_s: Figure
    kafka_per_change: Figure
    kafka_per_topic_and_poll: Figure
    bronze_per_change: Figure
    bronze_per_object: Figure
    silver_per_row_byte: Figure
    silver_file_bytes: Figure
    silver_versions_s: Figure  # how long files of old versions stay
    kafka_retention_days: Figure


class Requests(_Closed):
    """Requests to the object store."""

    writes_at_rest: Figure  # a second, by clients that do not depend on the load
    reads_at_rest: Figure
    bronze_flush_s: Figure  # the interval at which a busy topic's records become one object
    writes_per_table: Figure  # a merge into one table
    writes_per_batch: Figure
    reads_per_table: Figure
    reads_per_batch: Figure


class Coefficients(_Closed):
    """All figures of a measured stack."""

    machine: str
    batches: Batches
    bytes: Bytes
    requests: Requests
    parts: dict[str, Part]


def read_coefficients(path: Path = COEFFICIENTS) -> Coefficients:
    """Read a file of figures. Raises: SettingsError that names the key."""
    return parse(Coefficients, path)


def parse(model: type[Model], path: Path) -> Model:
    """Read a TOML file as `model`. Raises: SettingsError that names file and key."""
    try:
        return model.model_validate(read_toml(path))
    except ValidationError as error:
        wrong = "\n".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        raise SettingsError(f"{path} does not hold what is expected\n{wrong}") from None
