"""`headwater verify`: prove that silver equals the source, or that bronze is complete."""

from __future__ import annotations

import os
import sys

import typer

from app.cli.completion import tables
from app.cli.needs import require, silver_state
from app.cli.options import FORMAT_OPTION
from app.printing import Format

VERIFY_FAILED = 3  # neither equal nor different: it could not be found out


def verify(
    table: list[str] = typer.Argument(
        None, help="Tables; all captured ones when left out.", autocompletion=tables
    ),
    also: list[str] = typer.Option(
        None, "--table", "-t", help="A table, as the argument.", autocompletion=tables
    ),
    bronze: bool = typer.Option(
        False, "--bronze", help="Check bronze instead: it must have every offset exactly once."
    ),
    sample: str = typer.Option(None, "--sample", help="Rows (10000) or a share (5%) of each."),
    resume: bool = typer.Option(
        False, "--resume", help="Continue where an interrupted run stopped."
    ),
    part_rows: int = typer.Option(None, "--part-rows", min=1, help="Rows compared at a time."),
    allow_quarantined: bool = typer.Option(
        False,
        "--allow-quarantined",
        help="Exit 0 even if there are differences that quarantine explains.",
    ),
    continuous: bool = typer.Option(
        False, "--continuous", help="Round after round, slowly; results to ops.verification."
    ),
    every: float = typer.Option(None, "--every", min=0, help="Seconds from round to round."),
    cpu_share: float = typer.Option(
        None, "--cpu-share", min=0.1, max=100, help="Percent of one CPU for the rounds."
    ),
    rounds: int = typer.Option(None, "--rounds", min=1, help="End after this many rounds."),
    metrics_port: int = typer.Option(
        None, "--metrics-port", help="Serve the rounds' metrics there, on loopback."
    ),
    wait: float = typer.Option(
        None,
        "--wait",
        min=0,
        help="Seconds to wait for silver without progress; default 300.",
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Compare source and silver row by row, while writes go on.

    Prints a row for each table; differences are on stderr. At the end it waits until silver has applied the compared
    changes. If silver makes no progress, it prints the table, since when and why.

    Examples:
      ./headwater verify
      ./headwater verify orders --sample 5%
      ./headwater verify --bronze

    Exit codes:
      0  All is equal.
      1  Something differs, also rows in quarantine (unless they are allowed).
      2  Wrong usage.
      3  It could not be found out; stderr says why.
    """
    from app.verify.verify_command import Asked, run

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
        wait_s=wait,
        silver=silver_state,
    )
    try:
        require("kafka", "s3", *([] if bronze else ["postgres"]))
        code = run(asked)
    except Exception as error:
        from app.cli.failures import DEBUG, show

        show(error, debug=DEBUG in sys.orig_argv or bool(os.environ.get("HEADWATER_DEBUG")))
        raise typer.Exit(VERIFY_FAILED) from error
    raise typer.Exit(code)
