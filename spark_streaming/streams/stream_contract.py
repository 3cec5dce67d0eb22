"""Stream contracts: each stream has a file, `streams/<stream>.toml`, beside the tables' contracts.

Unlike a table's file, it is complete: no catalog knows a stream's columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import pyarrow as pa
import tomli
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from spark_streaming.contract.contract_files import (
    FILE_BYTES_MAX,
    Classification,
    ContractFileError,
    Problem,
    folders_of,
    near,
)
from spark_streaming.contract.kinds import kind_named
from spark_streaming.contract.toml_lines import key_lines, line_of

SHIPPED = Path(__file__).resolve().parents[1] / "contracts"
FOLDER, DEMO = "streams", "demo"
# After the prefix there is no second dot. So silver's query, `watch` and `trace` ignore the topic:
# they take only `<prefix>.<schema>.<table>`. The bronze sink takes every topic of the prefix.
_TOPIC = "stream-"
AUDIT_TOPIC = "audit-trino"  # the stack's own stream, in the package `audit`
_STREAM_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
_COLUMN_NAME = r"^[a-z][a-z0-9_]{0,62}$"
EVENT_COLUMNS = ("day", "event_key", "event_time")
TIMESTAMP = pa.timestamp("us", "UTC")
Kind = Literal["text", "int64", "float64", "bool", "timestamptz", "date", "uuid", "json"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StreamColumn(_Closed):
    """`[columns.NAME]`: the values that the events' `data` may have under that name."""

    type: Kind
    not_null: bool = False
    max_length: int | None = Field(default=None, ge=1, le=65_536)
    description: str = ""
    classification: Classification | None = None


ColumnsContract = TypeVar("ColumnsContract", bound=BaseModel)
ColumnName = Annotated[str, Field(pattern=_COLUMN_NAME)]


class StreamContract(_Closed):
    """The content of a stream's file.

    `retention_days`: how many whole days before today silver keeps. `max_mb`: the greatest size of
    the table's files; beyond it the oldest days are deleted, but never today's.
    """

    description: str = ""
    owner: str = ""
    domain: str = ""
    tags: list[str] = Field(default_factory=list)
    retention_days: int = Field(ge=1, le=3_650)
    max_mb: int = Field(default=1_024, ge=1, le=1 << 20)
    columns: dict[ColumnName, StreamColumn] = Field(min_length=1, max_length=200)

    @field_validator("columns")
    @classmethod
    def _not_reserved(cls, value: dict[str, StreamColumn]) -> dict[str, StreamColumn]:
        taken = [name for name in EVENT_COLUMNS if name in value]
        if taken:
            raise ValueError(f"`{taken[0]}` is a column of every stream; leave it out")
        return value


@dataclass(frozen=True)
class Stream:
    """One declared stream: the topic's and the silver table's name, and the fields of an event."""

    name: str
    contract: StreamContract

    @property
    def path(self) -> str:
        """The path of the stream's table in the lake."""
        return f"silver/{self.name}"

    def topic(self, prefix: str) -> str:
        """The stream's Kafka topic."""
        return stream_topic(prefix, self.name)

    def schema(self) -> pa.Schema:
        """The columns of the stream's silver table, as Arrow has them."""
        columns = self.contract.columns
        return pa.schema(
            [
                pa.field("day", pa.date32()),
                pa.field("event_key", pa.string()),
                pa.field("event_time", TIMESTAMP),
                *(
                    pa.field(name, kind_named(column.type).arrow)
                    for name, column in columns.items()
                ),
                pa.field("_received_at", TIMESTAMP),
                pa.field("_partition", pa.int32()),
                pa.field("_offset", pa.int64()),
                pa.field("_merged_at", TIMESTAMP),
            ]
        )


def stream_topic(prefix: str, name: str) -> str:
    """The Kafka topic of the stream `name`."""
    return f"{prefix}.{_TOPIC}{name}"


def is_stream_topic(topic: str, prefix: str) -> bool:
    """Whether a topic carries a stream, not a table's changes."""
    return topic.startswith(f"{prefix}.{_TOPIC}") or topic == f"{prefix}.{AUDIT_TOPIC}"


def stream_folders(contracts_path: str) -> list[Path]:
    """The folders of stream files, the one that takes precedence first.

    Args:
    contracts_path: the folders of contract files, separated as in PATH. The repository's own
    is among them for the demo store only; its streams of the stack count for every source.
    """
    given = folders_of(contracts_path)
    return [folder / part for folder in given for part in (FOLDER, f"{FOLDER}/{DEMO}")] + [
        SHIPPED / FOLDER
    ]


def read_streams(folders: Iterable[Path]) -> tuple[dict[str, Stream], list[Problem]]:
    """The streams of these folders by name, and each mistake in their files.

    A file with mistakes gives no stream, even if a later folder has a file of that name.
    """
    found: dict[str, Stream] = {}
    problems: list[Problem] = []
    seen: set[str] = set()
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            if path.stem in seen:
                continue
            seen.add(path.stem)
            try:
                found[path.stem] = read_stream(path)
            except ContractFileError as error:
                problems += error.problems
    return found, problems


def read_stream(path: Path) -> Stream:
    """Read one stream file. Raises: ContractFileError with each mistake, its line and a hint."""
    if not _STREAM_NAME.fullmatch(path.stem):
        hint = "lower-case letters, digits and `_`, at most 48"
        raise ContractFileError([Problem(path, 1, f"`{path.stem}` names no stream", hint)])
    return Stream(path.stem, read_contract(path, StreamContract))


def read_contract(path: Path, model: type[ColumnsContract]) -> ColumnsContract:
    """Read a contract file of columns. Raises: ContractFileError with each mistake and its line."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ContractFileError([Problem(path, 1, f"larger than {FILE_BYTES_MAX} bytes")])
        text = path.read_text(encoding="utf-8")
        given = tomli.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ContractFileError([Problem(path, 1, f"cannot be read: {error}")]) from error
    except tomli.TOMLDecodeError as error:
        problem = Problem(path, error.lineno, f"not TOML: {error.msg} (column {error.colno})")
        raise ContractFileError([problem]) from error
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise ContractFileError(_problems(path, text, error, model)) from None


def _problems(
    path: Path, text: str, error: ValidationError, contract: type[BaseModel]
) -> list[Problem]:
    lines = key_lines(text)
    found = []
    for item in error.errors(include_url=False, include_input=False):
        place = item["loc"]
        name, hint = ".".join(map(str, place)), ""
        message = f"`{name}`: {item['msg']}"
        if item["type"] == "extra_forbidden":
            message = f"unknown key `{name}`"
            model = StreamColumn if place[0] == "columns" else contract
            hint = near(str(place[-1]), model.model_fields)
        elif item["type"] == "missing":
            message = f"`{name}` is missing"
        elif item["type"] == "value_error":
            message = f"`{name}`: {item['ctx']['error']}"
        found.append(Problem(path, line_of(lines, place), message, hint))
    return sorted(found, key=lambda problem: problem.line)
