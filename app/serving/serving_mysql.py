"""A MySQL or MariaDB as the serving database.

There each statement about a table commits by itself, so a publication is no transaction.

1. Tables that killed publications have left are dropped.
2. The rows go into a new table, and with its row `publications` is written anew, both beside the old ones.
3. One `RENAME TABLE` swaps both: it is atomic for all the tables that it names.

Whatever is killed when: list and row are both the old ones, or both the new ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    MetaData,
    NullPool,
    PrimaryKeyConstraint,
    Table,
    create_engine,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from app.serving.publications_table import PUBLICATIONS, naive_utc
from app.serving.serving_database import LOCK_WAIT_S, PROGRAM, READER, ServingDatabase, quoted
from app.source.findings import NOTE

CONNECT_S = 10
ANSWER_S = 90  # of any statement; those that wait for others do so for LOCK_WAIT_S at most
_LOCK_STEP_S = 10
_BATCH_ROWS = 5_000  # the driver splits them into statements of a megabyte
_KEY_VIOLATIONS = (1062, 1048)  # duplicate entry, column cannot be null
_BESIDE = re.compile(r"_(?:new|old)_([0-9a-f]{16})")
# Refuses what does not fit, instead of storing something else.
_MODE = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
_SESSION = (
    f"SET time_zone = '+00:00', lock_wait_timeout = {LOCK_WAIT_S}, "
    f"innodb_lock_wait_timeout = {LOCK_WAIT_S}"
)
_ATOMIC = {True: (10, 6), False: (8, 0)}  # whether MariaDB → since when a swap outlasts a crash


class ServingMysql(ServingDatabase):
    """See ServingDatabase."""

    server = "mysql"

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Connect; each statement commits by itself."""
        engine = create_engine(
            make_url(self._dsn).set(drivername="mysql+pymysql"),
            poolclass=NullPool,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            connect_args={
                "connect_timeout": CONNECT_S, "read_timeout": ANSWER_S, "write_timeout": ANSWER_S,
                "charset": "utf8mb4", "sql_mode": _MODE, "init_command": _SESSION,
                "program_name": PROGRAM,
            },
        )  # fmt: skip
        with engine.connect() as connection:
            yield connection

    @contextmanager
    def publishing(self, connection: Connection, name: str) -> Iterator[str]:
        """Wait for another publication of the table, and drop what killed ones left."""
        with _alone(connection, name):
            _drop_left(connection, _tag(name))
            yield _new(name)

    def new_table(self, name: str, columns: Sequence[tuple[str, str]], key: Sequence[str]) -> Table:
        """Return the new table with its key: added later, it would write all rows again."""
        table = super().new_table(name, columns, key)
        if key:
            table.append_constraint(PrimaryKeyConstraint(*(table.c[one] for one in key)))
        return table

    def make(self, connection: Connection, table: Table) -> None:
        """Make a table in which texts are equal only where each character is, blanks at the end too."""
        mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
        table.kwargs["mysql_engine"] = "InnoDB"
        table.kwargs["mysql_charset"] = "utf8mb4"
        table.kwargs["mysql_collate"] = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
        connection.execute(CreateTable(table))

    def make_publications(self, connection: Connection) -> None:
        """Make table `publications` where it is missing."""
        if not inspect(connection).has_table(PUBLICATIONS.name):
            connection.execute(CreateTable(PUBLICATIONS, if_not_exists=True))

    def load(self, connection: Connection, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        """Insert the rows, in batches."""
        places = ", ".join(["%s"] * len(table.columns))
        statement = f"INSERT INTO {quoted(connection, table.name)} VALUES ({places})"
        values = (tuple(map(mysql_value, row)) for row in rows)
        while batch := list(islice(values, _BATCH_ROWS)):
            connection.exec_driver_sql(statement, batch)

    def add_key(self, connection: Connection, table: Table, key: Sequence[str]) -> None:
        """Do nothing: `new_table` has the key."""

    def replace(
        self, connection: Connection, table: Table, name: str, record: Mapping[str, Any]
    ) -> None:
        """Write `publications` anew beside the old one, and swap both tables in one statement."""
        own = PUBLICATIONS.name
        with _alone(connection, own):
            copied = PUBLICATIONS.to_metadata(MetaData(), name=_new(own))
            connection.execute(CreateTable(copied))
            others = select(PUBLICATIONS).where(PUBLICATIONS.c.name != name)
            connection.execute(insert(copied).from_select(list(copied.c.keys()), others))
            connection.execute(insert(copied).values(dict(record)))
            moves = [(table.name, name), (own, _old(own)), (_new(own), own)]
            if inspect(connection).has_table(name):
                moves.insert(0, (name, _old(name)))
            renamed = (f"{quoted(connection, a)} TO {quoted(connection, b)}" for a, b in moves)
            connection.exec_driver_sql(f"RENAME TABLE {', '.join(renamed)}")

    def is_key_violation(self, error: DBAPIError) -> bool:
        """Whether a value of the key is there twice, or missing: other columns may be NULL."""
        return error.orig is not None and error.orig.args[:1] in [(n,) for n in _KEY_VIOLATIONS]

    def try_rights(self, connection: Connection) -> None:
        """Make, fill, rename and drop a table."""
        name = "a check of the rights"  # no table of this name can be published
        with _alone(connection, name):
            new = _new(name)
            connection.exec_driver_sql(f"CREATE TABLE {new} (a int)")
            connection.exec_driver_sql(f"INSERT INTO {new} SELECT 1")
            connection.exec_driver_sql(f"RENAME TABLE {new} TO {_old(name)}")

    def grants(self, connection: Connection) -> str:
        """Return the grant on the whole database: the new tables have names of their own."""
        [(database, account)] = connection.exec_driver_sql("SELECT database(), current_user()")
        user, _, host = account.rpartition("@")
        return (
            "GRANT SELECT, INSERT, CREATE, ALTER, DROP ON "
            f"{quoted(connection, database)}.* TO '{user}'@'{host}';"
        )

    def readers(self, connection: Connection) -> tuple[str, str, str]:
        """Say what a reader needs: no user sees the grants of another."""
        database = connection.exec_driver_sql("SELECT database()").scalar_one()
        version = tuple(connection.dialect.server_version_info or ())[:2]
        mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
        seen = "who may read is not seen from here"
        if version < _ATOMIC[mariadb]:
            seen += "; this old server, killed in the middle of a swap, may be left without a list"
        return NOTE, seen, f"GRANT SELECT ON {quoted(connection, database)}.* TO '{READER}'@'%';"


def mysql_value(value: Any) -> Any:
    """Return a value of Trino's as MySQL is given it: moments in UTC."""
    if isinstance(value, datetime):
        return naive_utc(value)
    return str(value) if isinstance(value, UUID) else value


def _tag(name: str) -> str:
    """Return what the tables beside table `name` have in their names; its own may be too long."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _new(name: str) -> str:
    return f"_new_{_tag(name)}"


def _old(name: str) -> str:
    return f"_old_{_tag(name)}"


def _drop(connection: Connection, *tables: str) -> None:
    for one in tables:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {one}")


def _drop_left(connection: Connection, own: str) -> None:
    """Drop what killed publications of other tables left; what is at work now has its lock."""
    for name in inspect(connection).get_table_names():
        found = _BESIDE.fullmatch(name)
        # A session may take its own lock again.
        if found and found[1] != own and _take(connection, found[1], wait_s=0):
            try:
                _drop(connection, name)
            finally:
                _give_back(connection, found[1])


@contextmanager
def _alone(connection: Connection, name: str) -> Iterator[None]:
    """Be the only one who replaces a table; nothing stands beside it at first, nor afterwards."""
    while not _take(connection, _tag(name), wait_s=_LOCK_STEP_S):
        pass  # the task's timeout ends it
    try:
        _drop(connection, _new(name), _old(name))
        yield
    finally:
        with suppress(SQLAlchemyError):  # the session is lost: the next one drops the rest
            _drop(connection, _new(name), _old(name))
            _give_back(connection, _tag(name))


# Such locks are the server's, not a database's.
_LOCK = "concat('headwater.', left(sha2(database(), 256), 16), '.', :tag)"


def _take(connection: Connection, tag: str, *, wait_s: int) -> bool:
    taken = connection.execute(
        text(f"SELECT get_lock({_LOCK}, :wait)"), {"tag": tag, "wait": wait_s}
    )
    return bool(taken.scalar())


def _give_back(connection: Connection, tag: str) -> None:
    connection.execute(text(f"SELECT release_lock({_LOCK})"), {"tag": tag})
