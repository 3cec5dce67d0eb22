"""`headwater lineage`: the origins and uses of a table or a column."""

from __future__ import annotations

import typer

from app.cli.completion import tables
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_rows


def lineage(
    name: str = typer.Argument(
        help="NAME or NAME.COLUMN: a table of silver, or SCHEMA.NAME; others with their namespace, "
        "such as dashboard:Store.",
        autocompletion=tables,
    ),
    up: bool = typer.Option(False, "--up", help="Only its origins."),
    down: bool = typer.Option(False, "--down", help="Only its uses."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show the origins of a table or a column, and its uses: one row for each edge, the nearest first.

    Of a column: the columns that contain its value, with masks; `filter` is a column that only decides which rows
    there are. Of a table: which others, with the number of columns. Namespaces: source, topic, bronze, lake
    (left out), job, serving, dataset, chart, dashboard.

    Examples:
      ./headwater lineage customers.email --down
      ./headwater lineage reports.top_customers --up --format json
      ./headwater lineage topic:hw.public.orders

    Exit codes:
      0  It is known, even if it has no edges. 1 It is unknown.
    """
    require("s3")

    from app.environment.settings import load
    from app.errors import HeadwaterError
    from app.lineage.lineage_table import LineageTable
    from app.lineage.walk import find, walk
    from spark_streaming.storage.lake import Lake

    try:
        edges = LineageTable(Lake(load().store)).read()
    except OSError as error:
        raise HeadwaterError(
            "the lineage cannot be read from the lake",
            detail=str(error),
            hint="./headwater status s3",
        ) from error
    if not edges:
        raise HeadwaterError(
            "there is no lineage yet",
            detail="the table ops.lineage is empty or missing",
            hint="the service `tables` writes it some seconds after the first table: ./headwater status tables",
        )
    start = find(edges, name)
    both = up == down
    steps = [
        *(walk(edges, start, up=True) if up or both else ()),
        *(walk(edges, start, up=False) if down or both else ()),
    ]
    rows = [
        (
            "up" if step.is_up else "down",
            step.distance,
            str(step.edge.origin),
            str(step.edge.target),
            step.edge.kind,
            step.edge.made_by or None,
            step.edge.detail or None,
        )
        for step in steps
    ]
    print_rows(("way", "distance", "from", "to", "kind", "made_by", "detail"), rows, fmt)
