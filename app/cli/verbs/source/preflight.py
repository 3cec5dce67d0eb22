"""`preflight`: the requirements of the source, and of a user's own object store."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from app.cli.given import SOURCE_HELP, settings_with
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.errors import HeadwaterError
from app.printing import Format, print_rows

if TYPE_CHECKING:
    from app.source.findings import Finding
    from app.source.preflight_report import Entry

COLUMNS = ("check", "status", "observed", "mend", "todo")


def preflight(
    source: str = typer.Option(None, "--source", help=f"The Postgres to check: {SOURCE_HELP}"),
    apply: bool = typer.Option(
        False, "--apply", help="Run the SQL for missing requirements, and create missing buckets."
    ),
    profile: Path = typer.Option(None, "--profile", help="A TOML file of settings."),
    only_sql: bool = typer.Option(
        False, "--sql", help="Print only the SQL, whole, for psql; it holds no password."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Check a source database, and an object store of your own; print how to repair each missing requirement.

    Examples:
      ./headwater preflight --source postgresql://me@db.example.com/shop
      ./headwater preflight --format json
      ./headwater preflight --sql | psql -v ON_ERROR_STOP=1 "$OWNER"

    Exit codes:
      0  Nothing prevents capturing, or the SQL was printed.
      1  Something does, or the source could not be asked.
    """
    from app.environment.settings import of_each_source
    from app.lake import object_store
    from app.source.preflight import check_source, needs_action
    from app.source.preflight_report import Entry, entry_of

    if only_sql and apply:
        raise typer.BadParameter("--sql prints what --apply runs: give one of them")
    settings = settings_with(profile, source, apply=apply)
    store: list[Row] = []
    if not settings.profile.objects_here:
        for one in object_store.examine(settings, apply=apply):
            shown = Entry(one.check, one.status, one.observed, " ".join(one.remedy.split()))
            store.append(Row(shown, one.remedy))
    standing = any(one.entry.status == object_store.MISSING for one in store)
    try:
        if settings.profile.embedded_source:
            require("postgres")
        findings = [
            replace(
                finding, check=f"{one.source}: {finding.check}" if one.source else finding.check
            )
            for one in of_each_source(settings)
            for finding in check_source(one)
        ]
    except HeadwaterError:
        if store and not only_sql:
            _print_rows(store, fmt)  # print the findings about the object store, then fail
        raise
    standing = standing or any(map(needs_action, findings))
    if only_sql:
        _print_sql(findings)
        return
    rows = [*store, *(Row(entry_of(finding), finding.remedy) for finding in findings)]
    _print_rows(rows, fmt)
    if fmt is Format.table:
        _print_explained(findings, _command(source, profile))
    elif standing and not apply:
        print("hint: --sql prints the SQL for psql; --apply runs it", file=sys.stderr)
    raise typer.Exit(1 if standing else 0)


class Row(NamedTuple):
    """A line of the list, and the whole text that repairs it."""

    entry: Entry
    repair: str


def _print_rows(rows: Sequence[Row], fmt: Format) -> None:
    from app.source.preflight_report import listed

    if fmt is not Format.table:
        plain = [(*_plain(row.entry), row.repair, row.entry.todo) for row in rows]
        print_rows(COLUMNS, plain, fmt)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in listed([row.entry for row in rows], width):
        print(line)


def _plain(entry: Entry) -> tuple[str, str, str]:
    return entry.check, entry.status, entry.observed


def _print_sql(findings: Sequence[Finding]) -> None:
    from app.source.preflight_report import sql_block

    block = sql_block(findings, whole=True)
    if block:
        print(block)
    else:
        print("there is no SQL to run", file=sys.stderr)


def _print_explained(findings: Sequence[Finding], command: str) -> None:
    """Print the SQL as one block, then its explanation."""
    from app.source.preflight_report import meaning, sql_block

    if block := sql_block(findings, whole=False):
        print(f"\n{block}")
    print()
    for sentence in meaning(findings, command=command):
        print(sentence)


def _command(source: str | None, profile: Path | None) -> str:
    """Return this command as it was given, without a password."""
    from app.environment.dsn import without_secrets

    words = ["./headwater", "preflight"]
    if source is not None:
        words += ["--source", without_secrets(source) if "://" in source else "…"]
    if profile is not None:
        words += ["--profile", str(profile)]
    return shlex.join(words)
