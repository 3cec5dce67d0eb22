"""`headwater bronze`: pack bronze's small objects into large ones now."""

from __future__ import annotations

import typer

from app.cli.completion import tables
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format

app = typer.Typer(
    name="bronze", help="Bronze's objects: pack small ones into large ones.", no_args_is_help=True
)


@app.callback()
def bronze() -> None:
    """Bronze's objects: pack small ones into large ones."""


@app.command("compact")
def compact(
    table: list[str] = typer.Argument(
        None, help="Tables; every topic when left out.", autocompletion=tables
    ),
    every: bool = typer.Option(
        False, "--all", help="Also objects that are too few to fill a large one."
    ),
    min_age: float = typer.Option(
        60, "--min-age", min=0, metavar="MINUTES", help="Leave younger objects alone."
    ),
    keep_small: float = typer.Option(
        24, "--keep-small", min=0, metavar="HOURS", help="How long packed small objects stay."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Pack bronze's small objects into large ones, and delete small ones that were packed long ago.

    The service `silver` does this by itself, every ten minutes. Every event stays, each exactly once, at any moment; the
    newest object of a partition stays as it is. It may run beside the service, and beside itself. Readers that began before
    a small object goes look for the large one; with --keep-small 0, a search by `trace` or `erase` that runs may have to be repeated.

    Examples:
      ./headwater bronze compact
      ./headwater bronze compact orders --all --min-age 0

    Exit codes:
      0  Done.
      1  Something could not be packed; stderr says what and why. Nothing is lost.
    """
    require("s3")

    from app.bronze.compact_command import run_compact
    from app.environment.settings import load

    if run_compact(load(), table or [], fmt.value, every, min_age * 60, keep_small * 3600):
        raise typer.Exit(1)
