"""`headwater sql`: one SQL statement, answered by Trino."""

from __future__ import annotations

import typer

from app.cli.options import FORMAT_OPTION
from app.printing import Format


def sql(
    statement: str = typer.Argument(None, help="One SQL statement; `-` reads it from stdin."),
    file: str = typer.Option(None, "--file", "-f", help="Read the statement from this file."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Run SQL in Trino on the lake.

    Prints the answer's rows.

    Examples:
      ./headwater sql 'SELECT * FROM reports.best_rated_movies LIMIT 10'
      ./headwater sql --file report.sql --format csv
    """
    from app.query.query import run_sql
    from app.query.statement import read_statement

    raise typer.Exit(run_sql(read_statement(statement, file), fmt.value))
