"""Preflight's findings: one for each thing that is checked, with the SQL that fixes it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

SQL_FOLDER = Path(__file__).resolve().parents[2] / "debezium" / "sql"

# A function's body, between dollar quotes, has semicolons of its own.
_STATEMENT = re.compile(r"(?:\$body\$.*?\$body\$|[^;])+", re.DOTALL)

OK = "ok"
NOTE = "note"  # it works, but the user should know
LEFT_OUT = "left out"  # a table that is not captured; all others are
MISSING = "missing"  # nothing can be captured before it is fixed
STATUSES = (OK, NOTE, LEFT_OUT, MISSING)


@dataclass(frozen=True)
class Fix:
    """One statement that fixes something.

    Args:
        shown: the statement as it is printed, without a password.
        run: the statement as `--apply` runs it; None if a person has to decide, or if it has no
            effect before a restart of the server.
    """

    shown: str
    run: sql.Composed | None = None


@dataclass(frozen=True)
class Finding:
    """The result of one check: the observation, its status, and the statements that fix it.

    Args:
        purpose: a short description of the statements, if they are several or long.
    """

    check: str
    status: str
    observed: str
    fixes: tuple[Fix, ...] = ()
    purpose: str = ""

    @property
    def remedy(self) -> str:
        return "\n".join(fix.shown for fix in self.fixes)


def by_hand(statement: str) -> Fix:
    """Make a fix that is only shown, never run."""
    return Fix(f"{statement};")


def runnable(statement: sql.Composed) -> Fix:
    """Make a fix that is shown exactly as it is run."""
    return Fix(f"{statement.as_string(None)};", statement)


def from_file(name: str, **parts: sql.Composable) -> list[Fix]:
    """Read the statements of `debezium/sql/NAME.sql`, with each `{part}` filled in.

    Run the part `password` as given; show the place where the password is kept instead.
    """
    text = (SQL_FOLDER / f"{name}.sql").read_text()
    shown = {**parts, "password": sql.SQL("'<capture_password of secrets.json>'")}
    return [
        Fix(_filled(statement, shown).as_string(None) + ";", _filled(statement, parts))
        for statement in _statements(text)
    ]


def _statements(text: str) -> Iterable[str]:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    found = _STATEMENT.findall("\n".join(lines))
    return (part.strip() for part in found if part.strip())


def _filled(statement: str, parts: dict[str, sql.Composable]) -> sql.Composed:
    # The text is a file of this repository, not input.
    return sql.SQL(statement).format(**parts)
