"""`headwater resume`: try a stopped table again at once."""

from __future__ import annotations

import typer

from app.cli.completion import tables
from app.cli.needs import require


def resume(
    table: str = typer.Argument(
        help="A stopped table, by silver's name or the source's.", autocompletion=tables
    ),
) -> None:
    """Try a stopped table again at once, and print the result.

    Examples:
      ./headwater resume orders

    Exit codes:
      0  The table runs, or catches up.
      1  It is stopped again, or it could not be asked; stderr says why.
    """
    require("s3", "silver")

    from app.lake.resume_table import run_resume

    run_resume(table)
