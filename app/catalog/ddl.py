"""Finds what DDL statements would change in the source, by running them and rolling back.

One transaction takes a digest of every table, runs the statements, takes the digests again, reads the
changed tables' contracts, and rolls back. Until then it holds the statements' locks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from app.errors import HeadwaterError
from spark_streaming.capture_choice import EVERYTHING, Choice
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.source_catalog import list_tables, read_contract
from spark_streaming.schema.catalog_watch import table_stamps
from spark_streaming.storage.connections import TCP_LIMITS

LOCK_TIMEOUT_MS = 1_000
STATEMENT_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5
Table = tuple[str, str]

_KEYWORDS = ("ALTER", "CREATE", "DROP", "TRUNCATE", "COMMENT")
# Statements whose effects a rollback does not undo, or that cannot run in a transaction.
_NEVER = re.compile(
    r"\bCONCURRENTLY\b"
    r"|^(?:ALTER|CREATE|DROP)\s+(?:DATABASE|TABLESPACE|SUBSCRIPTION|SYSTEM|SERVER|ROLE|USER|GROUP)\b"
    r"|^ALTER\s+SYSTEM\b|^CREATE\s+.*\bAS\s+(?:SELECT|WITH|TABLE|VALUES|EXECUTE)\b",
    re.IGNORECASE | re.DOTALL,
)
_FILES = """
select n.nspname::text, c.relname::text, coalesce(pg_relation_filenode(c.oid), 0)::bigint
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname !~ '^pg_'
"""


@dataclass(frozen=True)
class Effect:
    """A table that the statements would change: its contracts before and after.

    None if there is no such table. `truncated`: only its rows would be removed.
    """

    table: Table
    before: Contract | None
    after: Contract | None
    truncated: bool = False


def checked_statements(text: str) -> list[str]:
    """Split a text into statements and check that each may be tried.

    Raises: HeadwaterError for a statement that is not DDL, or cannot be rolled back.
    """
    statements = list(split_statements(text))
    if not statements:
        raise HeadwaterError("there is no statement", hint='--ddl "ALTER TABLE orders ADD x int"')
    for statement in statements:
        keyword = statement.split(None, 1)[0].upper()
        if keyword not in _KEYWORDS:
            raise HeadwaterError(
                f"`{_shown(statement)}` is not a change of the schema",
                hint=f"a statement begins with {', '.join(_KEYWORDS)}",
            )
        if _NEVER.search(statement):
            raise HeadwaterError(
                f"`{_shown(statement)}` cannot be tried and undone",
                hint="it cannot run in a transaction, has effects beyond this database, or runs "
                "a query; leave it out",
            )
    return statements


def split_statements(text: str) -> Iterator[str]:
    """Yield the statements of a text without comments; the server takes one at a time."""
    token = re.compile(
        r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$[A-Za-z_0-9]*\$).*?\1|--[^\n]*|/\*.*?\*/|;""",
        re.DOTALL,
    )
    current, at = "", 0
    for match in token.finditer(text):
        current += text[at : match.start()]
        at = match.end()
        if match.group() == ";":
            if current.strip():
                yield current.strip()
            current = ""
        elif match.group().startswith(("--", "/*")):
            current += " "
        else:
            current += match.group()
    current += text[at:]
    if current.strip():
        yield current.strip()


def try_statements(dsn: str, statements: list[str], choice: Choice = EVERYTHING) -> list[Effect]:
    """Run statements in the source, find what they change, and roll back.

    Args:
        dsn: the connection string of a role that may run them; holds a password.
        choice: tables and columns that are not captured do not change.
    Raises: HeadwaterError if the source refuses a statement.
    """
    with _connected(dsn) as connection:
        try:
            connection.execute(
                "select set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, "
                "true), set_config('idle_in_transaction_session_timeout', %s, true)",
                [str(LOCK_TIMEOUT_MS), str(STATEMENT_TIMEOUT_MS), str(STATEMENT_TIMEOUT_MS)],
            )
            before = _stamps(connection)
            for statement in statements:
                _try(connection, statement)
            after = _stamps(connection)
            changed = sorted(
                table
                for table in before.keys() | after.keys()
                if before.get(table, _NOTHING)[0] != after.get(table, _NOTHING)[0]
                and choice.has(*table)
            )
            contracts_after = {
                t: read_contract(connection, *t, choice=choice) if t in after else None
                for t in changed
            }
        finally:
            connection.rollback()
        contracts_before = {
            t: read_contract(connection, *t, choice=choice) if t in before else None
            for t in changed
        }
        connection.rollback()
    effects = [Effect(table, contracts_before[table], contracts_after[table]) for table in changed]
    if any(statement[:8].upper() == "TRUNCATE" for statement in statements):
        emptied = sorted(
            table
            for table in before.keys() & after.keys()
            if table not in changed and before[table][1] != after[table][1]
        )
        effects += [Effect(table, None, None, truncated=True) for table in emptied]
    return effects


_NOTHING = ("", 0)


def _stamps(connection: psycopg.Connection[Any]) -> dict[Table, tuple[str, int]]:
    """Return (digest of the definition, file number) of each table."""
    stamps = table_stamps(connection, list_tables(connection))
    files = {(schema, table): file for schema, table, file in connection.execute(_FILES)}
    return {table: (stamp, files.get(table, 0)) for table, stamp in stamps.items()}


def _try(connection: psycopg.Connection[Any], statement: str) -> None:
    try:
        # In the extended protocol, which takes one statement only.
        connection.cursor().execute(statement.encode(), binary=True)
    except psycopg.errors.InsufficientPrivilege as error:
        raise HeadwaterError(
            f"the source's role may not run `{_shown(statement)}`",
            detail=str(error).strip(),
            hint="the DSN's role must own the table; or run it yourself, and then `contract plan` "
            "without --ddl",
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise HeadwaterError(
            f"`{_shown(statement)}` did not get its lock within {LOCK_TIMEOUT_MS / 1000:.0f} s",
            detail="other transactions use the table; nothing was changed",
            hint="try again at a quieter moment",
        ) from error
    except psycopg.Error as error:
        raise HeadwaterError(
            f"the source refuses `{_shown(statement)}`",
            detail=f"{type(error).__name__}: {str(error).strip()}",
        ) from error


def _connected(dsn: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(
            dsn,
            **{**TCP_LIMITS, "connect_timeout": CONNECT_TIMEOUT_S},
            application_name="headwater contract plan",
        )
    except psycopg.Error as error:
        raise HeadwaterError(
            "the source cannot be reached",
            detail=f"{type(error).__name__}: {str(error).strip()}",
            hint="`./headwater up` starts the embedded one",
        ) from error


def _shown(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= 80 else text[:77] + "..."
