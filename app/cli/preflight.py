"""`preflight`: what the source, and an object store of the user's own, need before they are used."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from app.cli.needs import require
from app.cli.printing import FORMAT_OPTION, Format, print_rows
from app.errors import HeadwaterError

COLUMNS = ("check", "status", "observed", "mend")


def preflight(
    source: str = typer.Option(None, "--source", help="The Postgres to look at (postgresql://…)."),
    apply: bool = typer.Option(
        False, "--apply", help="Run the SQL that mends what is missing, and make missing buckets."
    ),
    profile: Path = typer.Option(None, "--profile", help="A TOML file of settings."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Check a source database, and an object store of your own; print what mends what is missing."""
    from app.lake import object_store
    from app.settings import load
    from app.source.preflight import look, stands

    settings = load(None, profile, source_dsn=source, apply=apply)
    rows, standing = [], False
    if not settings.embedded_s3:
        for one in object_store.examine(settings, apply=apply):
            rows.append((one.check, one.status, one.observed, one.remedy))
            standing |= one.status == object_store.MISSING
    try:
        if settings.embedded_source:
            require("postgres")
        for finding in look(settings):
            rows.append((finding.check, finding.status, finding.observed, finding.remedy))
            standing |= stands(finding)
    except HeadwaterError:
        if rows:
            print_rows(COLUMNS, rows, fmt)  # what is known of the store is worth telling
        raise
    print_rows(COLUMNS, rows, fmt)
    if standing and not apply:
        print(
            "hint: --apply does what stands under `mend`, without what has to be done by hand",
            file=sys.stderr,
        )
    raise typer.Exit(1 if standing else 0)
