"""Connections to the source database: limits on every one, and errors that say what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app.errors import HeadwaterError

CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 60
# A definition change waits behind the application's own transactions, and others then queue
# behind it: give up early rather than stall the application.
LOCK_TIMEOUT_S = 5
DEFAULT_PORT = 5432
# As the server tells it. `initdb` chooses it where the machine's locale is C.
NO_ENCODING = "SQL_ASCII"

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# What libpq or the server says → what to do about it. The first that occurs in the text counts.
_HINTS = (
    ("password authentication failed", "check the user and the password in the DSN"),
    ("no password supplied", "put the password into the DSN: postgresql://user:password@host/db"),
    ("no pg_hba.conf entry", "allow this user and address in the server's pg_hba.conf"),
    ("does not exist", "check the database and the user in the DSN"),
    ("refused", "is the server running, and is this its port?"),
    ("translate host name", "check the host in the DSN"),
    ("resolve", "check the host in the DSN"),
    ("timeout", "is the host reachable from here, and does a firewall let the port through?"),
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
    """Where a DSN leads, without its password."""

    host: str
    port: int
    database: str
    user: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"


def address_of(dsn: str) -> Address:
    """The parts of a DSN that may be shown; raises HeadwaterError where it is no DSN."""
    found = options_of(dsn)
    return Address(
        host=str(found.get("host") or found.get("hostaddr") or "127.0.0.1"),
        port=int(found.get("port") or DEFAULT_PORT),
        database=str(found.get("dbname") or found.get("user") or "postgres"),
        user=str(found.get("user") or ""),
    )


def password_of(dsn: str) -> str:
    """The password of a DSN, or the empty text."""
    return str(options_of(dsn).get("password") or "")


def connect(dsn: str, *, application: str, replication: bool = False) -> Connection:
    """Open a session that commits each statement, with time limits on all that it does.

    Args:
        application: shown in the server's pg_stat_activity.
        replication: open it as a logical replication session, which takes only its commands.
    Raises: HeadwaterError with the address, what the server said, and a hint; no password. So too
        for a database whose texts have no encoding: what they say would be anyone's guess.
    """
    limits = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout={LOCK_TIMEOUT_S}s"
        " -c timezone=UTC -c search_path=pg_catalog"
    )
    extra = {"replication": "database"} if replication else {"options": limits}
    address = address_of(dsn)
    try:
        connection: Connection = psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=application,
            **extra,  # type: ignore[arg-type]
        )
    except psycopg.Error as error:
        raise unreachable(address, error, password_of(dsn)) from None
    if connection.info.parameter_status("server_encoding") == NO_ENCODING:
        connection.close()
        raise HeadwaterError(
            f"the database at {address} has no encoding ({NO_ENCODING})",
            detail="what its texts say depends on who wrote them",
            hint="move it into one with an encoding: CREATE DATABASE … TEMPLATE template0 "
            "ENCODING 'UTF8', then pg_dump and pg_restore",
        )
    return connection


def unreachable(address: Address, error: Exception, password: str = "") -> HeadwaterError:
    """The error for a session that could not be opened."""
    observed = _without(str(error).strip(), password)
    hint = next((hint for text, hint in _HINTS if text in observed), "check the DSN")
    return HeadwaterError(f"cannot reach the source at {address}", detail=observed, hint=hint)


def options_of(dsn: str) -> dict[str, Any]:
    """What a DSN sets, by libpq's names; raises HeadwaterError where it is no DSN."""
    try:
        found = dict(conninfo_to_dict(dsn))
        int(found.get("port") or DEFAULT_PORT)
        return found
    except (psycopg.Error, ValueError):
        # What libpq says of a malformed DSN repeats parts of it, and so perhaps the password.
        raise HeadwaterError(
            "the source's address cannot be read",
            hint="it looks like postgresql://user:password@host:5432/database; "
            "characters like @ : / in a password are written as %40 %3A %2F",
        ) from None


def _without(text: str, password: str) -> str:
    return text.replace(password, "***") if password else text
