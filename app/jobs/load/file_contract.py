"""Reads the contract file of a `load` task, which is like a stream's but has no retention."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from spark_streaming.contract.kinds import kind_named
from spark_streaming.streams.stream_contract import ColumnName, StreamColumn, read_contract

TIMESTAMP = pa.timestamp("us", "UTC")
OWN_COLUMNS = {"_file": pa.string(), "_line": pa.int64(), "_loaded_at": TIMESTAMP}


class FileContract(BaseModel):
    """The content of the file that `contract` names."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    description: str = ""
    owner: str = ""
    domain: str = ""
    tags: list[str] = Field(default_factory=list)
    columns: dict[ColumnName, StreamColumn] = Field(min_length=1, max_length=200)

    @field_validator("columns")
    @classmethod
    def _not_reserved(cls, value: dict[str, StreamColumn]) -> dict[str, StreamColumn]:
        taken = [name for name in OWN_COLUMNS if name in value]
        if taken:
            raise ValueError(f"`{taken[0]}` is a column of every loaded table; leave it out")
        return value

    def table_schema(self) -> pa.Schema:
        """Return the columns of the table: those of the files, and the columns for each row's origin."""
        columns = [
            pa.field(name, kind_named(column.type).arrow) for name, column in self.columns.items()
        ]
        return pa.schema([*columns, *(pa.field(*own) for own in OWN_COLUMNS.items())])


def read_file_contract(path: Path) -> FileContract:
    """Read a contract. Raises: ContractFileError with each mistake, its line and a hint."""
    return read_contract(path, FileContract)
