"""The verb `completion`, and the names that TAB offers; after a failure it offers none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum

import typer

from app.cli.shells import COMPLETE, SCRIPTS

CONNECT_S = 1


class Shell(str, Enum):
    """A shell that has a script."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(shell: Shell = typer.Argument(help="The shell that reads the script.")) -> None:
    """Print the script that makes a shell complete verbs, options, services and tables.

    Tables are those that the running stack captures. Nothing is installed or downloaded.

    Examples:
      eval "$(./headwater completion bash)"        # in ~/.bashrc, with the clone's path
      eval "$(./headwater completion zsh)"         # in ~/.zshrc, after compinit
      ./headwater completion fish > ~/.config/fish/completions/headwater.fish

    Exit codes:
      0  The script was printed.
    """
    print(SCRIPTS[shell.value])


def is_asked() -> bool:
    """Return whether a shell has started this process to complete a command line."""
    return bool(os.environ.get(COMPLETE))


def prepare() -> None:
    """Register typer's shells, which `add_completion=False` leaves out with its two options."""
    from typer._completion_classes import completion_init

    completion_init()


def services(incomplete: str) -> list[str]:
    """Return the services whose names begin with the typed text."""
    from app.environment.settings import ROOT
    from app.services.service import load_services

    return [name for name in load_services(ROOT) if name.startswith(incomplete)]


def services_and_supervisor(incomplete: str) -> list[str]:
    """Return the log names (services, supervisor) that begin with the typed text."""
    own = [name for name in ("supervisor",) if name.startswith(incomplete)]
    return [*services(incomplete), *own]


def tables(incomplete: str) -> list[str]:
    """Return the silver tables whose names begin with the typed text; none without a running stack."""
    import psycopg

    from app.environment.settings import load
    from app.environment.toml_files import SettingsError
    from app.launcher.state import Home

    try:
        settings = load()
        if not Home(settings.home).is_supervised():
            return []
        return sorted(
            name
            for name in _published(settings.capture_dsn, settings.profile.publication_name)
            if name.startswith(incomplete)
        )
    except (SettingsError, psycopg.Error, OSError):
        return []


def _published(dsn: str, publication: str) -> Iterator[str]:
    import psycopg

    from app.source.source_tables import OWN_SCHEMA
    from spark_streaming.contract.names import silver_table
    from spark_streaming.storage.connections import TCP_LIMITS

    limits = {**TCP_LIMITS, "connect_timeout": CONNECT_S}
    query = (
        "SELECT schemaname, tablename FROM pg_publication_tables "
        "WHERE pubname = %s AND schemaname <> %s"
    )
    with psycopg.connect(dsn, **limits) as connection:
        for schema, table in connection.execute(query, [publication, OWN_SCHEMA]):
            yield silver_table(schema, table)
