"""Verbs on Superset: log-in, and its assets in and out of the clone."""

from __future__ import annotations

import sys

import typer

from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_object

app = typer.Typer(
    name="superset",
    help="Superset's log-in, and its dashboards as files.",
    no_args_is_help=True,
)


@app.command("login")
def login(
    analyst: bool = typer.Option(
        False, "--analyst", help="The user who sees everything and changes nothing."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Print Superset's address, a user and the password that was generated for it.

    Examples:
      ./headwater superset login
      ./headwater superset login --analyst
    """
    from app.dashboards.load import ADMIN, ANALYST
    from app.environment.settings import load

    settings = load()
    user = ANALYST if analyst else ADMIN
    print_object(
        {
            "url": settings.ports.published_url("superset"),
            "user": user,
            "password": settings.secret(f"superset_{user}_password"),
        },
        fmt,
    )


@app.command("import")
def import_() -> None:
    """Import `superset/assets/` again, and overwrite edits from the browser.

    Examples:
      ./headwater superset import
    """
    from app.dashboards.load import import_assets
    from app.environment.settings import load

    print(f"imported {import_assets(load())} assets", file=sys.stderr)


@app.command("export")
def export(
    slug: list[str] = typer.Argument(None, help="More dashboards, by slug, than the known ones."),
) -> None:
    """Write dashboards edited in the browser back to `superset/assets/`.

    Prints the files that changed.

    Examples:
      ./headwater superset export
      ./headwater superset export my-dashboard
    """
    from app.dashboards.export import export_assets
    from app.dashboards.load import FOLDER, admin
    from app.environment.settings import load

    for path in export_assets(admin(load()), FOLDER, slug or []):
        print(f"superset/assets/{path}")
