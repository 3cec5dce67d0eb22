"""`headwater resync`: read tables again from the source; `resync_run` carries it out."""

from __future__ import annotations

import typer

from app.cli.completion import tables
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format


def resync(
    table: list[str] = typer.Argument(help="Captured tables.", autocompletion=tables),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Read tables again from the source into silver, while everything else continues.

    Rows that the source does not have any more go at the end. Shows on stderr how far it is. An
    interrupted resync continues by itself.

    Examples:
      ./headwater resync orders
      ./headwater resync public.orders public.order_lines
    """
    from app.cli.verbs.data.resync_run import run_resync

    require("postgres", "kafka", "connect", "s3", "capture", "silver")
    run_resync(table, fmt)
