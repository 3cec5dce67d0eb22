"""`headwater trace`: the path of a row's versions from the log to Trino's answer."""

from __future__ import annotations

import typer

from app.cli.completion import tables
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format


def trace(
    table: str = typer.Argument(
        help="A table, by silver's name or the source's.", autocompletion=tables
    ),
    key: str = typer.Argument(
        help="The row's key: 7, or a=1,b=2, or the values in the key's order, or JSON."
    ),
    limit: int = typer.Option(
        20, "--limit", min=1, help="The maximum number of versions, newest first."
    ),
    before: list[str] = typer.Option(
        None,
        "--before",
        help="TOPIC/PARTITION/OFFSET: only earlier events; one for each partition.",
    ),
    seconds: float = typer.Option(3, "--seconds", min=0, help="For the search in bronze."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show the whole path of a row's versions, the newest last: from the log to Trino's answer.

    Prints for each version its LSN, its place in Kafka and bronze, the batch, the Delta version and file, and Trino's
    current answer; also for rows that are deleted or in quarantine.

    Examples:
      ./headwater trace ratings 7
      ./headwater trace order_lines order_id=12,line=3 --limit 5
    """
    require("s3")

    from app.cli.verb_audit import record_verb
    from app.environment.settings import load
    from app.trace.trace import run_trace

    record_verb(load(), "trace", [table, key], [table])
    run_trace(table, key, fmt.value, limit, before or [], seconds)
