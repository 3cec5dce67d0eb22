"""Verbs on the data. What they run is imported only when they are called."""

from __future__ import annotations

import typer

from app.cli.printing import FORMAT_OPTION, Format
from app.errors import HeadwaterError

LATER_RELEASE = 2


def mount(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (demo, sql, verify, watch, preflight, resume, trace, rebuild):
        app.command()(verb)
    app.add_typer(quarantine_app)


def demo(
    once: bool = typer.Option(
        False, "--once", help="For machines: exit 0 only if every hop was seen; then stop."
    ),
) -> None:
    """Start everything, seed the movie store, edit a row and show it at every hop."""
    from app.demo import run_demo

    raise typer.Exit(run_demo(once) or 0)


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
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Compare source and silver row by row, while writes go on."""
    from app.lake.verify import run_verify

    raise typer.Exit(run_verify(table or [], fmt.value) or 0)


def watch(
    table: list[str] = typer.Argument(None, help="Tables; all captured ones when left out."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show changes as they arrive, with the time that each hop took."""
    from app.lake.watch import run_watch

    raise typer.Exit(run_watch(table or [], fmt.value) or 0)


def preflight(
    source: str = typer.Option(None, "--source", help="The Postgres to look at (postgresql://…)."),
    apply: bool = typer.Option(False, "--apply", help="Run the SQL that mends what is missing."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Check a source database and print the SQL for whatever is missing."""
    from app.settings import load
    from app.source.preflight import run

    settings = load(source_dsn=source)
    raise typer.Exit(run(settings.source_dsn, apply, fmt.value) or 0)


def resume(table: str = typer.Argument(help="A silver table that is stopped.")) -> None:
    """Try a stopped table again at once, and say what became of it."""
    from app.lake.resume import run_resume

    run_resume(table)


def trace(key: str = typer.Argument(help="TABLE/KEY of a row.")) -> None:
    """Show the whole way of one row (a later release)."""
    raise later("trace")


def rebuild(table: str = typer.Argument(help="A silver table.")) -> None:
    """Make a silver table again from bronze (a later release)."""
    raise later("rebuild")


quarantine_app = typer.Typer(
    name="quarantine",
    help="Rows that broke their contract (a later release).",
    no_args_is_help=True,
)


@quarantine_app.command("list")
def quarantine_list() -> None:
    """List the rows in quarantine (a later release)."""
    raise later("quarantine list")


@quarantine_app.command("replay")
def quarantine_replay(table: str = typer.Argument(None, help="A silver table.")) -> None:
    """Replay rows from quarantine (a later release)."""
    raise later("quarantine replay")


def later(verb: str) -> Exception:
    """Say that a verb comes with a later release; exit code 2."""
    error = HeadwaterError(f"`{verb}` comes with a later release; this one does not have it yet")
    typer.echo(str(error), err=True)
    return typer.Exit(LATER_RELEASE)
