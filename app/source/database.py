"""Opens sessions of the source database, with time limits and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app.environment.libpq_variables import password_places
from app.errors import HeadwaterError
from spark_streaming.storage.connections import TCP_LIMITS

CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 60
# A definition change waits behind the application's own transactions, and others then queue
# behind it: give up early rather than stall the application.
LOCK_TIMEOUT_S = 5
DEFAULT_PORT = 5432
# The encoding's name as the server reports it. `initdb` chooses it if the machine's locale is C.
NO_ENCODING = "SQL_ASCII"

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

NO_PASSWORD = "no password supplied"
# Part of a message of libpq or the server → the hint. The first that occurs counts.
_HINTS = (
    (
        "password authentication failed",
        "check the user and the password in the DSN; a new server lacks the capture role, which "
        "`headwater preflight --apply` creates",
    ),
    ("no pg_hba.conf entry", "allow this user and address in the server's pg_hba.conf"),
    ("does not exist", "check the database and the user in the DSN"),
    ("refused", "check that the server is running and that this is its port"),
    ("translate host name", "check the host in the DSN"),
    ("resolve", "check the host in the DSN"),
    ("timeout", "check that the host is reachable and that no firewall blocks the port"),
    ("certificate", "check sslmode and sslrootcert in the DSN"),
    ("SSL", "check sslmode in the DSN: does the server speak TLS?"),
    ("too many clients", "the server's max_connections is reached: end sessions or raise it"),
    (
        "remaining connection slots",
        "the server's max_connections is reached: end sessions or raise it",
    ),
    ("starting up", "the server is recovering: try again in a moment"),
    ("shutting down", "the server is stopping: start it again"),
)


@dataclass(frozen=True)
class Address:
    """The address of a DSN, without its password."""

    host: str
    port: int
    database: str
    user: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"


def address_of(dsn: str) -> Address:
    """Return the parts of a DSN that may be shown; raise HeadwaterError if it is not a DSN."""
    found = options_of(dsn)
    return Address(
        host=str(found.get("host") or found.get("hostaddr") or "127.0.0.1"),
        port=int(str(found.get("port") or DEFAULT_PORT).partition(",")[0]),
        database=str(found.get("dbname") or found.get("user") or "postgres"),
        user=str(found.get("user") or ""),
    )


def password_of(dsn: str) -> str:
    """Return the password of a DSN; empty if it has none."""
    return str(options_of(dsn).get("password") or "")


def connect(dsn: str, *, application: str, replication: bool = False) -> Connection:
    """Open a session that commits each statement, with time limits on everything.

    Args:
        application: the name in the server's pg_stat_activity.
        replication: open a logical replication session, which takes only replication commands.
    Raises: HeadwaterError with the address, the server's message and a hint, without the password;
        also for a database without an encoding, whose texts cannot be read reliably.
    """
    limits = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout={LOCK_TIMEOUT_S}s"
        " -c timezone=UTC -c search_path=pg_catalog"
    )
    given = options_of(dsn)
    options = f"{given.get('options') or ''} {limits}".strip()
    extra = {"replication": "database"} if replication else {"options": options}
    timeout = int(given.get("connect_timeout") or CONNECT_TIMEOUT_S)
    address = address_of(dsn)
    try:
        connection: Connection = psycopg.connect(
            dsn,
            autocommit=True,
            application_name=application,
            **{**TCP_LIMITS, "connect_timeout": timeout, **extra},
        )
    except psycopg.Error as error:
        raise unreachable(address, error, password_of(dsn)) from None
    if connection.info.parameter_status("server_encoding") == NO_ENCODING:
        connection.close()
        raise HeadwaterError(
            f"the database at {address} has no encoding ({NO_ENCODING})",
            detail="the meaning of its texts depends on the client that wrote them",
            hint="move it into one with an encoding: CREATE DATABASE … TEMPLATE template0 "
            "ENCODING 'UTF8', then pg_dump and pg_restore",
        )
    return connection


class KeptConnection:
    """A session of the source that is opened when it is first needed, and again once it is closed.

    Args:
        dsn: returns the connection string, and is called at each opening; it holds a password.
        application: see `connect`.
    """

    def __init__(self, dsn: Callable[[], str], *, application: str) -> None:
        self._dsn = dsn
        self._application = application
        self._connection: Connection | None = None

    def open(self) -> Connection:
        """Return the session; raise HeadwaterError if it cannot be opened."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn(), application=self._application)
        return self._connection

    def close(self) -> None:
        """Close the session, if there is one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def unreachable(address: Address, error: Exception, password: str = "") -> HeadwaterError:
    """Make the error for a session that could not be opened."""
    observed = _without(str(error).strip(), password)
    if NO_PASSWORD in observed:
        hint = f"no password was found; looked in {password_places()}"
        return HeadwaterError(f"cannot reach the source at {address}", detail=observed, hint=hint)
    hint = next((hint for text, hint in _HINTS if text in observed), "check the DSN")
    return HeadwaterError(f"cannot reach the source at {address}", detail=observed, hint=hint)


def options_of(dsn: str) -> dict[str, Any]:
    """Parse a DSN into libpq's options; raise HeadwaterError if it is not a DSN."""
    try:
        found = dict(conninfo_to_dict(dsn))
        for port in str(found.get("port") or DEFAULT_PORT).split(","):
            int(port)
        return found
    except (psycopg.Error, ValueError):
        # libpq's message repeats parts of a malformed DSN, perhaps the password.
        raise HeadwaterError(
            "the source's address cannot be read",
            hint="it looks like postgresql://user:password@host:5432/database; "
            "characters like @ : / in a password are written as %40 %3A %2F",
        ) from None


def _without(text: str, password: str) -> str:
    return text.replace(password, "***") if password else text
