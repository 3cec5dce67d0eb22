"""`headwater profile`: check a profile before a start."""

from __future__ import annotations

import shutil
import sys
from dataclasses import astuple
from pathlib import Path

import typer

from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_rows

app = typer.Typer(
    name="profile",
    help="Profiles: files with a stack's settings.",
    no_args_is_help=True,
)
COLUMNS = ("part", "check", "status", "observed", "mend", "todo")


@app.command("check")
def check(
    file: Path = typer.Argument(help="A TOML file of settings, as for `up --profile`."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Connect to each part that a profile names, as the identity that will be used.

    Each line has the observation and, if something is missing, how to grant or repair it. Nothing
    is started or changed; a written test object is removed again.

    Examples:
      ./headwater profile check own.toml
      ./headwater profile check own.toml --format json

    Exit codes:
      0  There is no problem. 1 There is a problem, or the file has a mistake.
    """
    from app.cli.given import settings_with
    from app.environment.settings import only
    from app.profile_check.part_checks import check_profile
    from app.source.preflight_report import Entry, listed

    only(file)  # the mistakes of the file itself, before the home's settings join it
    found = []
    for one in check_profile(settings_with(file, None)):
        print(f"checked {one.part}, {one.check}", file=sys.stderr)
        found.append(one)
    if fmt is Format.table:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        entries = [Entry(f"{o.part}, {o.check}", o.status, o.observed, o.todo) for o in found]
        print("\n".join(listed(entries, width)))
        if any(one.part == "source" and one.stands_in_the_way for one in found):
            print(f"hint: ./headwater preflight --profile {file} --sql", file=sys.stderr)
    else:
        print_rows(COLUMNS, [astuple(one) for one in found], fmt)
    raise typer.Exit(1 if any(one.stands_in_the_way for one in found) else 0)
