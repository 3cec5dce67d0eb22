"""`headwater demo`: the whole chain on the movie store; `demo_run` carries it out."""

from __future__ import annotations

import typer


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
    """Start everything, seed the movie store, edit a row and show it at every hop.

    It then proves with `verify` that silver equals the source. It runs until Ctrl-C; with `--once`
    it stops everything after the proof. Prints the hops with their times.

    Examples:
      ./headwater demo
      ./headwater demo --once

    Exit codes:
      0  Every hop was seen and silver equals the source; or the demo was ended.
      1  Something failed, or silver differs; stderr says what. 3 `verify` could not compare them.
    """
    from app.cli.verbs.data.demo_run import run_demo, show_demo

    code = show_demo(once) if running else run_demo(once, dashboards)
    raise typer.Exit(code or 0)
