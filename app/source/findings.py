"""What preflight says: one finding for each thing looked at, with the SQL that mends it."""

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
NOTE = "note"  # works, and somebody should know
LEFT_OUT = "left out"  # a table that is not captured; all others are
MISSING = "missing"  # nothing can be captured before it is mended
STATUSES = (OK, NOTE, LEFT_OUT, MISSING)


@dataclass(frozen=True)
class Mend:
    """One statement that mends something.

    Args:
        shown: as it is printed; holds no password.
        run: as it is run with --apply; None where only a person may decide, or where it does
            nothing before a restart of the server.
    """

    shown: str
    run: sql.Composed | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was seen, how it stands, what mends it."""

    check: str
    status: str
    observed: str
    mends: tuple[Mend, ...] = ()

    @property
    def remedy(self) -> str:
        return "\n".join(mend.shown for mend in self.mends)


def by_hand(statement: str) -> Mend:
    """A statement that is only ever shown."""
    return Mend(f"{statement};")


def runnable(statement: sql.Composed) -> Mend:
    """A statement that is shown as it is run."""
    return Mend(f"{statement.as_string(None)};", statement)


def from_file(name: str, **parts: sql.Composable) -> list[Mend]:
    """The statements of `debezium/sql/NAME.sql`, with `{part}` filled in.

    A part `password` is run as given and shown as the place where the password is kept.
    """
    text = (SQL_FOLDER / f"{name}.sql").read_text()
    shown = {**parts, "password": sql.SQL("'<capture_password of secrets.json>'")}
    return [
        Mend(_filled(statement, shown).as_string(None) + ";", _filled(statement, parts))
        for statement in _statements(text)
    ]


def _statements(text: str) -> Iterable[str]:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    found = _STATEMENT.findall("\n".join(lines))
    return (part.strip() for part in found if part.strip())


def _filled(statement: str, parts: dict[str, sql.Composable]) -> sql.Composed:
    # The text is this repository's own file, not anybody's input.
    return sql.SQL(statement).format(**parts)
