"""`headwater rebuild`: make a silver table again from bronze."""

from __future__ import annotations

import typer

from app.cli.completion import tables
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format


def rebuild(
    table: str = typer.Argument(
        help="A table, by silver's name or the source's.", autocompletion=tables
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Make a silver table again from bronze alone, while everything goes on.

    Shows on stderr how far it is. What was interrupted goes on where it stopped.

    Examples:
      ./headwater rebuild orders
    """
    from app.rebuild.table_rebuild import run_rebuild

    require("s3", "silver")
    run_rebuild(table, fmt.value)
