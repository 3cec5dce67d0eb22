"""`headwater rebuild`: make silver tables again from bronze, as they are or as they were."""

from __future__ import annotations

import typer

from app.cli.completion import tables
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.errors import HeadwaterError
from app.printing import Format


def rebuild(
    table: list[str] = typer.Argument(
        None, help="Tables, by silver's names or the source's.", autocompletion=tables
    ),
    until: str = typer.Option(
        None, "--until", help="Build the table as of an LSN or a time, beside the current one."
    ),
    name: str = typer.Option(
        None, "--as", help="The name of that table; TABLE__at_LSN when left out."
    ),
    drop: str = typer.Option(None, "--drop", help="Remove a table that --until has made."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Rebuild silver tables from bronze alone, while everything else continues.

    With --until the current table stays as it is. The new one has the whole transactions up to that
    moment, and is compared with Delta's time travel, or else with a replay row by row. Shows on stderr
    how far it is. An interrupted rebuild continues where it stopped.

    Examples:
      ./headwater rebuild orders
      ./headwater rebuild orders payments --until 2026-11-24T03:20:00Z
      ./headwater rebuild orders --until 16/B374D848 --as orders_before
      ./headwater rebuild --drop orders_before

    Exit codes:
      0  All tables run again; with --until: each is proved equal.
      1  A table was not built, or differs from its proof.
      2  Wrong usage.
      3  A table could not be proved; stderr says why.
    """
    if (drop is not None and (table or until or name)) or (drop is None and not table):
        raise HeadwaterError(
            "give tables, or `--drop NAME` alone", hint="`./headwater help rebuild`"
        )
    if name is not None and until is None:
        raise HeadwaterError(
            "`--as` needs `--until`", hint="without it, the current table itself is made again"
        )
    require("s3", *(["silver"] if drop is None else []))

    from app.rebuild.rebuild_run import run_drop, run_rebuild, run_until

    if drop is not None:
        run_drop(drop)
        return
    if until is None:
        run_rebuild(table, fmt.value)
        return
    if code := run_until(table, until, name, fmt.value):
        raise typer.Exit(code)
