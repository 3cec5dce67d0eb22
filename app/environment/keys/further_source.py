"""One of `[[sources]]` in a profile: a further database in the same lake."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from spark_streaming.capture_choice import ALL_TABLES, patterns


class FurtherSource(BaseModel):
    """One of `[[sources]]`; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Part of names in Kafka, Postgres and Trino, so it is short enough for all three.
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,15}$")
    dsn: SecretStr | None = None
    dsn_file: Path | None = None
    table_include: str = ALL_TABLES
    table_exclude: str = ""
    column_exclude: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> FurtherSource:
        if (self.dsn is None) == (self.dsn_file is None):
            raise ValueError(f"source `{self.name}` needs one of dsn, dsn_file")
        patterns(self.table_include, parts=2)
        patterns(self.table_exclude, parts=2)
        patterns(self.column_exclude, parts=3)
        return self

    @property
    def address(self) -> SecretStr:
        """The DSN: given, or the first line of its file. Raises: ValueError if that cannot be read."""
        if self.dsn is not None:
            return self.dsn
        assert self.dsn_file is not None
        path = self.dsn_file.expanduser()
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        if not lines or not lines[0].strip():
            raise ValueError(f"{path} is empty: its first line is the address of `{self.name}`")
        return SecretStr(lines[0].strip())
