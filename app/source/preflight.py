"""Checks a source database before it is captured, and fixes it if that is allowed.

1. Open a session as the owner.
2. Read the facts and judge them.
3. With `apply`, run the SQL of findings that are missing, left out, or notes; then check again.
4. Return the findings that remain, or raise an error that lists them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import psycopg

from app.environment.settings import Settings, place_of
from app.errors import HeadwaterError
from app.source.database import Connection, address_of, connect, password_of
from app.source.facts import read_facts
from app.source.findings import LEFT_OUT, MISSING, NOTE, Finding
from app.source.left_out import judge_choice
from app.source.source_judge import judge
from app.source.source_tables import Names
from spark_streaming.capture_choice import Choice

APPLICATION = "headwater preflight"
# Passes of checks and fixes: a fix can uncover the next problem (a new role's login, say).
PASSES_MAX = 3
_LISTED_MAX = 20
# The key of an advisory lock: one process at a time prepares a source.
_LOCK_KEY = 0x68656164


@dataclass(frozen=True)
class Source:
    """A source: its two addresses, the stack's names in it, the choice of tables, the allowed changes.

    `place_of` returns the place of a setting.
    """

    dsn: str
    capture_dsn: str
    names: Names
    choice: Choice
    place_of: Callable[[str], str]
    apply: bool

    @staticmethod
    def of(settings: Settings, *, apply: bool) -> Source:
        """Return the source of a stack."""
        choice = Choice.of(settings.profile)
        dsn, capture_dsn = settings.source_dsn, settings.capture_dsn
        return Source(
            dsn, capture_dsn, Names.of(settings), choice, partial(place_of, settings), apply
        )


def check_source(settings: Settings) -> list[Finding]:
    """Return every finding about the source, after fixing it if `settings.profile.apply` is set.

    Raises: HeadwaterError if the source cannot be reached, or a fix fails.
    """
    return examine(Source.of(settings, apply=settings.profile.apply))


def needs_action(finding: Finding) -> bool:
    """Whether the user has something to do. A table that no fix makes capturable is only reported."""
    return finding.status == MISSING or (finding.status == LEFT_OUT and bool(finding.fixes))


def ensure_ready(settings: Settings) -> None:
    """Make sure that the source can be captured; fix it first if `settings.profile.may_apply`.

    Tables that cannot be captured are reported on stderr and stop nothing.
    Raises: HeadwaterError that lists the missing requirements, with the SQL that fixes them.
    """
    source = Source.of(settings, apply=settings.profile.may_apply)
    findings = examine(source)
    missing = [finding for finding in findings if finding.status == MISSING]
    if missing:
        raise HeadwaterError(
            f"the source at {address_of(source.dsn)} is not ready to be captured",
            detail="\n".join(_shown(finding) for finding in missing[:_LISTED_MAX]),
            hint="run these statements, or let `--apply` run those that need no restart; "
            "`headwater preflight` shows everything, `headwater preflight --sql` prints them for psql",
        )
    for finding in findings:
        if finding.status in (LEFT_OUT, NOTE):
            print(f"{finding.check}: {finding.status}: {finding.observed}", file=sys.stderr)
            if finding.status == LEFT_OUT and finding.remedy:
                print(f"  hint: {finding.remedy}", file=sys.stderr)


def examine(source: Source) -> list[Finding]:
    """Return the findings about a source, after fixing it if that is allowed."""
    with connect(source.dsn, application=APPLICATION) as connection:
        findings = _findings(connection, source)
        for _ in range(PASSES_MAX if source.apply else 0):
            if not apply_fixes(connection, findings):
                break
            findings = _findings(connection, source)
        return findings


def apply_fixes(connection: Connection, findings: Sequence[Finding]) -> int:
    """Run the fixes of all findings; return how many statements ran.

    Each finding's statements run in one transaction. A fix that fails is reported on stderr; its
    table stays left out.
    Raises: HeadwaterError with the statement and the server's message, if a fix fails that is
    needed
        to capture anything.
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
    fixes = [fix for fix in finding.fixes if fix.run is not None]
    shown = ""
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_KEY])
            for fix in fixes:
                shown = fix.shown
                connection.execute(fix.run or "")
    except psycopg.Error as error:
        raise HeadwaterError(
            f"{finding.check}: the source refused a change",
            detail=f"{shown}\n{str(error).strip()}",
            hint=_hint_for(error),
        ) from None
    for fix in fixes:
        print(f"applied: {fix.shown}", file=sys.stderr)
    return len(fixes)


def _findings(connection: Connection, source: Source) -> list[Finding]:
    role = address_of(source.capture_dsn).user
    password = password_of(source.capture_dsn).encode()
    # The server's log may keep statements: it gets a verifier, never the password.
    verifier = connection.pgconn.encrypt_password(password, role.encode(), b"scram-sha-256")
    facts = read_facts(connection, source.dsn, source.capture_dsn, source.names, source.choice)
    return [*judge(facts, verifier.decode()), *judge_choice(facts, source.place_of)]


def _shown(finding: Finding) -> str:
    lines = [f"{finding.check}: {finding.observed}"]
    return "\n".join(lines + [f"  {line}" for line in finding.remedy.splitlines()])


def _hint_for(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "the table is busy with a long transaction; try again when that has ended"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "give the DSN of the tables' owner, or run the statement as a superuser"
    return "run the statement by hand to see more"
