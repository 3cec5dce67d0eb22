"""What a serving database must be able to do; Postgres and MySQL each do it in their own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from app.serving.published_types import Server, column_type

READER = "reader"
LOCK_WAIT_S = 30  # for readers of the old table, whose transactions must end
PROGRAM = "headwater publish"  # as which the server's administrator sees the session


class ServingDatabase(ABC):
    """One serving database, by its DSN, which holds a password: never print it."""

    server: Server

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    @abstractmethod
    def connected(self) -> AbstractContextManager[Connection]:
        """Connect. A Postgres is in a transaction, which is committed at the end of the block."""

    @abstractmethod
    def publishing(self, connection: Connection, name: str) -> AbstractContextManager[str]:
        """Publish table `name`, one at a time; nothing beside it is left at the end of the block.

        Yields: the name of the new table beside it.
        """

    def new_table(self, name: str, columns: Sequence[tuple[str, str]], key: Sequence[str]) -> Table:
        """Return the new table, with columns of these names and Trino's types."""
        types = [
            (one, column_type(one, kind, self.server, in_key=one in key)) for one, kind in columns
        ]
        # Without `autoincrement` MySQL would make up a value in place of 0 or NULL.
        return Table(
            name, MetaData(), *(Column(one, kind, autoincrement=False) for one, kind in types)
        )

    def make(self, connection: Connection, table: Table) -> None:
        """Make a table."""
        connection.execute(CreateTable(table))

    @abstractmethod
    def make_publications(self, connection: Connection) -> None:
        """Make table `publications` where it is missing."""

    @abstractmethod
    def load(self, connection: Connection, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        """Write the rows into a table that nobody else knows of."""

    @abstractmethod
    def add_key(self, connection: Connection, table: Table, key: Sequence[str]) -> None:
        """Make `key` the primary key, where `new_table` has not."""

    @abstractmethod
    def replace(
        self, connection: Connection, table: Table, name: str, record: Mapping[str, Any]
    ) -> None:
        """Give the new table the name of the old one, and `publications` its row, at once."""

    @abstractmethod
    def is_key_violation(self, error: DBAPIError) -> bool:
        """Whether the rows have no such key: a value twice, or none."""

    @abstractmethod
    def try_rights(self, connection: Connection) -> None:
        """Do for a moment what a publication does. Raises: DBAPIError."""

    @abstractmethod
    def grants(self, connection: Connection) -> str:
        """Return the statements that give this user what a publication needs."""

    @abstractmethod
    def readers(self, connection: Connection) -> tuple[str, str, str]:
        """Return whether the role `reader` may read: a finding's status, what is seen, what to do."""


def quoted(connection: Connection, name: str) -> str:
    """Return a name as it stands in a statement, with its percent signs doubled for the driver."""
    return connection.dialect.identifier_preparer.quote(name)


def short(error: Exception) -> str:
    """Return what the server says, in a line, without the statement and its values."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig else error
    if len(original.args) > 1:  # PyMySQL's: number, text
        return " ".join(str(original.args[1]).split())
    lines = str(original).strip().splitlines() or [type(original).__name__]
    detail = getattr(getattr(original, "diag", None), "message_detail", None)
    return " ".join(filter(None, [lines[0], detail]))
