"""Verbs on the data. What they run is imported only when they are called."""

from __future__ import annotations

import os
import sys

import typer

from app.cli import contract, quarantine, streams
from app.cli.needs import require
from app.cli.preflight import preflight
from app.cli.printing import FORMAT_OPTION, Format

VERIFY_FAILED = 3  # neither equal nor different: nobody knows


def mount(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (demo, sql, verify, watch, preflight, resume, trace, rebuild):
        app.command()(verb)
    app.add_typer(contract.app)
    app.add_typer(quarantine.app)
    app.add_typer(streams.app)


def demo(
    once: bool = typer.Option(
        False, "--once", help="For machines: exit 0 only if every hop was seen; then stop."
    ),
    running: bool = typer.Option(
        False, "--running", help="The stack is up already, and is left so."
    ),
    dashboards: bool = typer.Option(
        None,
        "--dashboards/--no-dashboards",
        help="With Superset, last, or (the default) without it; kept for later starts.",
    ),
) -> None:
    """Start everything, seed the movie store, edit a row and show it at every hop."""
    from app.demo import run_demo, show_demo

    code = show_demo(once) if running else run_demo(once, dashboards)
    raise typer.Exit(code or 0)


def sql(
    statement: str = typer.Argument(None, help="One SQL statement; `-` reads it from stdin."),
    file: str = typer.Option(None, "--file", "-f", help="Read the statement from this file."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Run SQL in Trino on the lake."""
    from app.lake.query import run_sql
    from app.lake.statement import read_statement

    raise typer.Exit(run_sql(read_statement(statement, file), fmt.value))


def verify(
    table: list[str] = typer.Argument(None, help="Tables; all captured ones when left out."),
    also: list[str] = typer.Option(None, "--table", "-t", help="A table, as the argument."),
    bronze: bool = typer.Option(
        False, "--bronze", help="Check bronze instead: every offset is there exactly once."
    ),
    sample: str = typer.Option(None, "--sample", help="Rows (10000) or a share (5%) of each."),
    resume: bool = typer.Option(False, "--resume", help="Go on where an interrupted run stopped."),
    part_rows: int = typer.Option(None, "--part-rows", min=1, help="Rows compared at a time."),
    allow_quarantined: bool = typer.Option(
        False, "--allow-quarantined", help="Exit 0 also where quarantine explains what differs."
    ),
    continuous: bool = typer.Option(
        False, "--continuous", help="Round after round, slowly; results to ops.verification."
    ),
    every: float = typer.Option(None, "--every", min=0, help="Seconds from round to round."),
    cpu_share: float = typer.Option(
        None, "--cpu-share", min=0.1, max=100, help="Percent of one CPU for the rounds."
    ),
    rounds: int = typer.Option(None, "--rounds", min=1, help="End after so many rounds."),
    metrics_port: int = typer.Option(
        None, "--metrics-port", help="Serve the rounds' metrics there, on loopback."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Compare source and silver row by row, while writes go on.

    Exit code 0: equal; 1: something differs, also rows in quarantine; 3: it could not be found out.
    """
    from app.lake.verify_command import Asked, run

    asked = Asked(
        tables=[*(table or []), *(also or [])],
        bronze=bronze,
        sample=sample,
        resume=resume,
        part_rows=part_rows,
        continuous=continuous,
        every_s=every,
        cpu_share_pct=cpu_share,
        rounds=rounds,
        metrics_port=metrics_port,
        fmt=fmt.value,
        allow_quarantined=allow_quarantined,
    )
    try:
        require("kafka", "s3", *([] if bronze else ["postgres"]))
        code = run(asked)
    except Exception as error:
        from app.cli.main import DEBUG, show

        show(error, debug=DEBUG in sys.orig_argv or bool(os.environ.get("HEADWATER_DEBUG")))
        raise typer.Exit(VERIFY_FAILED) from error
    raise typer.Exit(code)


def watch(
    table: list[str] = typer.Argument(None, help="Tables; all captured ones when left out."),
    hops: bool = typer.Option(False, "--hops", help="A line for each hop, as it happens."),
    follow_stdin: bool = typer.Option(
        False,
        "--follow-stdin",
        help="Transactions on stdin are left out of no sample; its end ends the watch.",
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show changes as they arrive, with the time that each hop took."""
    from app.lake.watch import run_watch

    require("kafka", "s3")
    raise typer.Exit(run_watch(table or [], fmt.value, hops, follow_stdin) or 0)


def resume(table: str = typer.Argument(help="A silver table that is stopped.")) -> None:
    """Try a stopped table again at once, and say what became of it."""
    from app.lake.resume import run_resume

    require("s3", "silver")
    run_resume(table)


def trace(
    table: str = typer.Argument(help="A silver table."),
    key: str = typer.Argument(help="7, or a=1,b=2, or the values in the key's order, or JSON."),
    limit: int = typer.Option(20, "--limit", min=1, help="At most so many versions, the newest."),
    before: list[str] = typer.Option(
        None, "--before", help="TOPIC/PARTITION/OFFSET: only what came before it; one a partition."
    ),
    seconds: float = typer.Option(3, "--seconds", min=0, help="For the search in bronze."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show the whole way of a row's versions, the newest last: from the log to Trino's answer."""
    from app.lake.trace import run_trace

    require("s3")
    run_trace(table, key, fmt.value, limit, before or [], seconds)


def rebuild(
    table: str = typer.Argument(help="A silver table."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Make a silver table again from bronze alone, while everything goes on.

    What was interrupted goes on where it stopped.
    """
    from app.lake.rebuild import run_rebuild

    require("s3", "silver")
    run_rebuild(table, fmt.value)
