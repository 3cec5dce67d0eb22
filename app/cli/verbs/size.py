"""`headwater size`: how many nodes, disks, requests and how much money a workload needs."""

from __future__ import annotations

from pathlib import Path

import typer

from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_rows

ROWS_A_TABLE = 100_000


def size(
    changes_per_second: float = typer.Option(
        ..., "--changes-per-second", min=0.001, help="Rows inserted, updated and deleted a second."
    ),
    tables: int = typer.Option(..., "--tables", min=1, help="Tables that they are spread over."),
    row_bytes: int = typer.Option(..., "--row-bytes", min=1, help="Bytes of a row in the source."),
    retention: float = typer.Option(
        ..., "--retention", min=0.01, metavar="DAYS", help="Days for which bronze is kept."
    ),
    rows: int = typer.Option(
        None, "--rows", min=1, help=f"Rows of all tables; {ROWS_A_TABLE:,} a table when left out."
    ),
    active_rows: int = typer.Option(
        None,
        "--active-rows",
        min=1,
        help="Rows, neighbours by key, that changes fall into; all when left out.",
    ),
    prices: Path = typer.Option(
        None, "--prices", help="What a node, a disk and requests cost, as TOML."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Compute nodes, disks, requests and cost of a workload, and which part breaks first.

    It computes from figures that were measured on one machine of two cores, and starts nothing.
    Every figure and formula: docs/scale.md.

    Examples:
      ./headwater size --changes-per-second 500 --tables 40 --row-bytes 200 --retention 365
      ./headwater size --changes-per-second 500 --tables 40 --row-bytes 200 --retention 365 --prices mine.toml
    """
    from app.deploy.sizing.coefficients import read_coefficients
    from app.deploy.sizing.demand import Workload
    from app.deploy.sizing.prices import PRICES, read_prices
    from app.deploy.sizing.rows import COLUMNS
    from app.deploy.sizing.rows import rows as rows_of
    from app.deploy.sizing.sizes import size as size_of

    paid = read_prices(prices or PRICES)
    every = rows or tables * ROWS_A_TABLE
    load = Workload(
        changes_per_second,
        tables,
        row_bytes,
        retention,
        every,
        active_rows or every,
        paid.node.silver_cores,
    )
    found = size_of(load, read_coefficients(), paid)
    print_rows(COLUMNS, rows_of(load, found, paid.currency), fmt)
