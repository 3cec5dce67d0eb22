"""The contract of a source table: its columns with types, its key, its replica identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.contract.types import Column

METADATA_FIELDS = (
    pa.field("_lsn", pa.int64()),
    pa.field("_committed_at", pa.timestamp("us", "UTC")),
    pa.field("_merged_at", pa.timestamp("us", "UTC")),
)
# Fields about the time in which a contract holds, not about the table.
_WHEN = ("version", "valid_after_lsn", "valid_from_lsn", "begins_at_lsn", "noted_lsn", "xid")
# Other versions, which are stored in files of their own.
_BESIDE = ("previous_versions", "later_versions")


class ContractError(ValueError):
    """A text is not a stored contract; the message says why."""


@dataclass(frozen=True)
class Contract:
    """One table's contract; it is hashable and picklable, so workers can decode with it.

    Args:
        schema, table: the table in the source.
        columns: the columns in the source's order.
        key: the names (in silver) of the columns that identify a row; empty for a keyless table.
        replica_identity: default | full | index | nothing.
        version: counts the contracts of a table, from 1.
        left_out: the source's columns that silver does not carry, by their names in the source:
            generated ones, which Postgres does not stream.
        left_out_at: (number in the catalog, type, whether it may be NULL) of each of those; empty
            if a previous release read the contract.
        oid: the table's oid in the source; it changes if the table is dropped and made again.
        valid_after_lsn: at this LSN the previous version was still valid.
            valid_from_lsn: at this LSN, if not before, this version was valid. For events between
                the two,
            their columns or their transaction decide (see `contract_versions`).
        begins_at_lsn: the exact place in the log where this version begins; None if it is unknown.
        noted_lsn: the LSN of the newest definition of the table that the source had recorded when
            this version was read; None if the source records none.
        xid: the transaction that gave the table this definition, as far as the catalog shows.
        previous_versions: the versions before this one, oldest first, to read older events. A
            comparison of contracts ignores them, and the later versions too.
        later_versions: known versions after this one that silver does not follow yet, oldest first
            (see `early_names`).
    """

    schema: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    replica_identity: str = "default"
    version: int = 1
    left_out: tuple[str, ...] = ()
    left_out_at: tuple[tuple[int, str, bool], ...] = ()
    oid: int | None = None
    valid_after_lsn: Lsn = LOG_START
    valid_from_lsn: Lsn = LOG_START
    begins_at_lsn: Lsn | None = None
    noted_lsn: Lsn | None = None
    xid: int | None = None
    previous_versions: tuple[Contract, ...] = field(default=(), compare=False, repr=False)
    later_versions: tuple[Contract, ...] = field(default=(), compare=False, repr=False)

    @property
    def is_keyless(self) -> bool:
        """Whether rows have no key: equal rows may occur several times."""
        return not self.key

    @property
    def refusal(self) -> str | None:
        """Why silver cannot keep the table, with the statement that fixes it; None if it can."""
        table = f"{quoted(self.schema)}.{quoted(self.table)}"
        if self.replica_identity == "nothing":
            return (
                f"table {self.schema}.{self.table} has replica identity NOTHING: "
                f"its updates and deletes do not reach the log\n"
                f"hint: ALTER TABLE {table} REPLICA IDENTITY {'FULL' if self.is_keyless else 'DEFAULT'}"
            )
        if self.is_keyless and self.replica_identity != "full":
            return (
                f"table {self.schema}.{self.table} has no key and its replica identity is not FULL: "
                f"an update does not say which row it changed\n"
                f"hint: ALTER TABLE {table} REPLICA IDENTITY FULL, or give it a primary key"
            )
        return None

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """The columns by their names in silver."""
        return {column.name: column for column in self.columns}

    @property
    def key_numbers(self) -> list[int | str]:
        """The key's columns by their numbers in the source; by name if a previous release read it."""
        return [self.by_name[name].attnum or name for name in self.key]

    @property
    def identity_columns(self) -> list[str]:
        """The columns that distinguish rows without a key: those that the source has now.

        Silver keeps old values of a dropped column, but no event carries them any more.
        """
        return [column.name for column in self.columns if not column.dropped]

    @cached_property
    def data_schema(self) -> pa.Schema:
        """The Arrow schema of the source's columns in silver, without metadata columns."""
        return pa.schema([pa.field(column.name, column.arrow_type) for column in self.columns])

    def silver_schema(self) -> pa.Schema:
        """Return the silver table's schema: the contract's columns, `_lsn` and the two times."""
        return pa.schema([*self.data_schema, *METADATA_FIELDS])

    def with_texts(self, names: Collection[str]) -> Contract:
        """The contract with some columns (names in silver) carried as text; others stay.

        A column whose silver type holds every value of its Postgres type also stays.
        """
        columns = tuple(
            column.as_text
            if column.name in names and not column.dropped and column.may_be_text
            else column
            for column in self.columns
        )
        return self if columns == self.columns else replace(self, columns=columns)

    def fingerprint(self) -> str:
        """Return 16 hex digits that depend on all but the version and the time when it holds."""
        described = self._described()
        for name in (*_WHEN, "left_out_at"):
            described[name] = 0
        for column in described["columns"]:
            # A default that is set later changes no row.
            column["filled_by"] = column["xid"] = None
        text = json.dumps(described, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the contract as a JSON document, which `from_json` reads."""
        return json.dumps(self._described(), indent=1)

    def _described(self) -> dict[str, Any]:
        described = asdict(replace(self, previous_versions=(), later_versions=()))
        for name in _BESIDE:
            del described[name]
        return described

    @classmethod
    def from_json(cls, text: str) -> Contract:
        """Read a contract that `to_json` wrote. Raises: ContractError for anything else."""
        try:
            given = json.loads(text)
            columns = tuple(
                Column(**{**column, "labels": tuple(column.get("labels", ()))})
                for column in given.pop("columns")
            )
            key = tuple(given.pop("key"))
            left_out = tuple(given.pop("left_out", ()))
            left_out_at = tuple((a, b, c) for a, b, c in given.pop("left_out_at", ()))
            contract = cls(
                columns=columns, key=key, left_out=left_out, left_out_at=left_out_at, **given
            )
            _ = contract.data_schema
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ContractError(f"not a contract: {error}") from error
        return contract

    def __getstate__(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)


def quoted(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
