"""`headwater sql`: one SQL statement, answered by Trino."""

from __future__ import annotations

import typer

from app.cli.options import FORMAT_OPTION
from app.printing import Format


def sql(
    statement: str = typer.Argument(None, help="One SQL statement; `-` reads it from stdin."),
    file: str = typer.Option(None, "--file", "-f", help="Read the statement from this file."),
    user: str = typer.Option(
        None, "--user", help='Sign in as this person (`access = "signed"`), not as the stack.'
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Run SQL in Trino on the lake.

    Prints the answer's rows. The password of `--user` is asked for, or HEADWATER_TRINO_PASSWORD has it.

    Examples:
      ./headwater sql 'SELECT * FROM reports.best_rated_movies LIMIT 10'
      ./headwater sql --file report.sql --format csv
      ./headwater sql --user ana 'SELECT email FROM customers LIMIT 3'
    """
    from app.query.query import run_sql
    from app.query.statement import read_statement

    text = read_statement(statement, file)
    raise typer.Exit(run_sql(text, fmt.value, person=_signed_in(user) if user else None))


def _signed_in(user: str) -> tuple[str, str]:
    """The person's name and password; a command line would show it to the whole machine."""
    import os
    from getpass import getpass

    given = os.environ.get("HEADWATER_TRINO_PASSWORD")
    return user, getpass(f"Password of {user}: ") if given is None else given
