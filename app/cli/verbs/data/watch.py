"""`headwater watch`: changes as they arrive, with the time that each hop took."""

from __future__ import annotations

import typer

from app.cli.completion import tables
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format


def watch(
    table: list[str] = typer.Argument(
        None, help="Tables; all captured ones when left out.", autocompletion=tables
    ),
    hops: bool = typer.Option(False, "--hops", help="A line for each hop, as it happens."),
    follow_stdin: bool = typer.Option(
        False,
        "--follow-stdin",
        help="Transactions on stdin are left out of no sample; its end ends the watch.",
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show changes as they arrive, with the time that each hop took.

    Prints one row a change until Ctrl-C; of a fast stream 50 a second.

    Examples:
      ./headwater watch
      ./headwater watch ratings --hops --format json
    """
    require("kafka", "s3")

    from app.watch.watch import run_watch

    raise typer.Exit(run_watch(table or [], fmt.value, hops, follow_stdin) or 0)
