"""Checks a source database before it is captured, and mends it where that is allowed.

1. Open a session as the owner.
2. Read the facts; judge each.
3. With `apply`, run the SQL of what is missing, left out, or could be better; then look again.
4. Print, or raise with, whatever still stands.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from app.errors import HeadwaterError
from app.settings import Settings
from app.source.database import Connection, address_of, connect, password_of
from app.source.facts import read_facts
from app.source.findings import LEFT_OUT, MISSING, NOTE, Finding
from app.source.judge import judge
from app.source.tables import Names

APPLICATION = "headwater preflight"
# Passes of looking and mending: a mend can uncover the next thing (a new role's login, say).
PASSES_MAX = 3
_LISTED_MAX = 20
# One preparation of a source at a time, whoever asks: an advisory lock's key.
_LOCK_KEY = 0x68656164


@dataclass(frozen=True)
class Source:
    """The two addresses of a source, what is ours in it, and whether it may be changed."""

    dsn: str
    capture_dsn: str
    names: Names
    apply: bool


def look(settings: Settings) -> list[Finding]:
    """Every finding about the source, after mending it where `settings.profile.apply` is set.

    Raises: HeadwaterError where the source cannot be reached, or a mend fails.
    """
    dsn, capture_dsn = settings.source_dsn, settings.capture_dsn
    return examine(Source(dsn, capture_dsn, Names.of(settings), settings.profile.apply))


def stands(finding: Finding) -> bool:
    """Whether something is to be done: a table that nothing can bring in is told, no failure."""
    return finding.status == MISSING or (finding.status == LEFT_OUT and bool(finding.mends))


def ensure_ready(settings: Settings) -> None:
    """Return if the source can be captured; mend it first where `settings.may_apply`.

    Tables that cannot be captured are told on stderr and stop nothing.
    Raises: HeadwaterError that lists what is missing with the SQL that mends it.
    """
    names = Names.of(settings)
    source = Source(settings.source_dsn, settings.capture_dsn, names, settings.may_apply)
    findings = examine(source)
    missing = [finding for finding in findings if finding.status == MISSING]
    if missing:
        raise HeadwaterError(
            f"the source at {address_of(source.dsn)} is not ready to be captured",
            detail="\n".join(_told(finding) for finding in missing[:_LISTED_MAX]),
            hint="run these statements, or let `--apply` run those that need no restart; "
            "`headwater preflight` shows everything",
        )
    for finding in findings:
        if finding.status in (LEFT_OUT, NOTE):
            print(f"{finding.check}: {finding.status}: {finding.observed}", file=sys.stderr)
            if finding.status == LEFT_OUT and finding.remedy:
                print(f"  hint: {finding.remedy}", file=sys.stderr)


def examine(source: Source) -> list[Finding]:
    """The findings about a source, after mending it where that is allowed."""
    with connect(source.dsn, application=APPLICATION) as connection:
        findings = _findings(connection, source)
        for _ in range(PASSES_MAX if source.apply else 0):
            if not apply_mends(connection, findings):
                break
            findings = _findings(connection, source)
        return findings


def apply_mends(connection: Connection, findings: Sequence[Finding]) -> int:
    """Run the mends of what is missing, left out or noted; returns how many statements ran.

    Each finding's statements run in one transaction of their own. One table that refuses stays
    left out, and is told on stderr; so is what works without its mend.
    Raises: HeadwaterError with the statement and what the server said of it, where without it
        nothing can be captured.
    """
    done = 0
    for finding in findings:
        try:
            done += _apply(connection, finding)
        except HeadwaterError as error:
            if finding.status == MISSING:
                raise
            print(error, file=sys.stderr)
    return done


def _apply(connection: Connection, finding: Finding) -> int:
    mends = [mend for mend in finding.mends if mend.run is not None]
    shown = ""
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_KEY])
            for mend in mends:
                shown = mend.shown
                connection.execute(mend.run or "")
    except psycopg.Error as error:
        raise HeadwaterError(
            f"{finding.check}: the source refused a change",
            detail=f"{shown}\n{str(error).strip()}",
            hint=_hint_for(error),
        ) from None
    for mend in mends:
        print(f"applied: {mend.shown}", file=sys.stderr)
    return len(mends)


def _findings(connection: Connection, source: Source) -> list[Finding]:
    role = address_of(source.capture_dsn).user
    password = password_of(source.capture_dsn).encode()
    # The server's log may keep statements: it gets a verifier, never the password.
    verifier = connection.pgconn.encrypt_password(password, role.encode(), b"scram-sha-256")
    facts = read_facts(connection, source.dsn, source.capture_dsn, source.names)
    return judge(facts, verifier.decode())


def _told(finding: Finding) -> str:
    lines = [f"{finding.check}: {finding.observed}"]
    return "\n".join(lines + [f"  {line}" for line in finding.remedy.splitlines()])


def _hint_for(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "the table is busy with a long transaction; try again when that has ended"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "give the DSN of the tables' owner, or run the statement as a superuser"
    return "run the statement by hand to see more"
