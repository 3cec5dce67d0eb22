"""Verbs on Superset: log-in, and its assets in and out of the clone."""

from __future__ import annotations

import sys

import typer

from app.cli.printing import FORMAT_OPTION, Format, print_object

superset_app = typer.Typer(
    name="superset",
    help="Superset's log-in, and its dashboards as files.",
    no_args_is_help=True,
)


def mount(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.add_typer(superset_app)


@superset_app.command("login")
def login(
    analyst: bool = typer.Option(
        False, "--analyst", help="The user who sees everything and changes nothing."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Print address, user and the password that was generated for it."""
    from app.dashboards.load import ADMIN, ANALYST
    from app.settings import load

    settings = load()
    user = ANALYST if analyst else ADMIN
    print_object(
        {
            "url": settings.published_url("superset"),
            "user": user,
            "password": settings.secret(f"superset_{user}_password"),
        },
        fmt,
    )


@superset_app.command("import")
def import_() -> None:
    """Import `superset/assets/` again, over what was edited in the browser."""
    from app.dashboards.load import import_assets
    from app.settings import load

    print(f"imported {import_assets(load())} assets", file=sys.stderr)


@superset_app.command("export")
def export(
    slug: list[str] = typer.Argument(None, help="More dashboards, by slug, than the known ones."),
) -> None:
    """Write dashboards edited in the browser back to `superset/assets/`; prints changed files."""
    from app.dashboards.export import export_assets
    from app.dashboards.load import FOLDER, admin
    from app.settings import load

    for path in export_assets(admin(load()), FOLDER, slug or []):
        print(f"superset/assets/{path}")
