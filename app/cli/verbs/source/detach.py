"""`headwater detach`: a source database as it was before Headwater."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import typer

from app.cli.given import SOURCE_HELP, given_source
from app.errors import HeadwaterError

if TYPE_CHECKING:
    from app.environment.profile import Profile
    from app.environment.settings import Settings
    from app.source.database import Address, Connection
    from app.source.detach import Plan, Step

APPLICATION = "headwater detach"
LEFT = 1
# Option → the name of the stack that it gives.
OPTIONS = {"--slot": "slot_name", "--publication": "publication_name", "--role": "capture_role"}


def detach(
    source: str = typer.Option(
        None,
        "--source",
        help=f"The Postgres to leave, else the one that this home captures: {SOURCE_HELP}",
    ),
    apply: bool = typer.Option(False, "--apply", help="Run the SQL; without this it is printed."),
    slot: str = typer.Option(None, "--slot", help="The stack's slot_name, if it has one."),
    publication: str = typer.Option(
        None, "--publication", help="The stack's publication_name, if it has one."
    ),
    role: str = typer.Option(None, "--role", help="The stack's capture_role, if it has one."),
) -> None:
    """Remove everything of Headwater from a database of yours: replication slot, publication,
    event trigger, replica identities that it set, schema, rights and role.

    Prints the SQL on stdout; with --apply runs it, and prints the statements that need another role. Works without
    the stack and without its home.

    Examples:
      ./headwater detach --source postgresql://owner@db.example.com/shop > leave.sql
      ./headwater detach --source postgresql://owner@db.example.com/shop --apply

    Exit codes:
      0  It was done or printed. 1 Something is left; stderr says what.
    """
    from app.source.database import address_of, connect
    from app.source.detach import await_release, in_use, plan
    from app.source.source_tables import Names
    from app.source.traces import read_traces

    given = given_source(source)
    chosen = dict(zip(OPTIONS.values(), (slot, publication, role), strict=True))
    settings = _settings(given, {k: v for k, v in chosen.items() if v is not None})
    dsn = given or settings.source_dsn
    own_dsn = settings.profile.capture_dsn
    role_name = address_of(own_dsn.get_secret_value()).user if own_dsn else None
    with connect(dsn, application=APPLICATION) as connection:
        _refuse_standby(connection.execute("SELECT pg_is_in_recovery()").fetchone())
        read = partial(
            read_traces, connection, Names.of(settings), role_name or settings.profile.capture_role
        )
        if not apply:
            found = plan(read())
            if found.in_use:
                print(in_use(found.in_use), file=sys.stderr)
            _show(found, address_of(dsn))
            return
        found = plan(await_release(read))
        left = _carry_out(connection, found, settings)
    _print_kept(found)
    if not found.steps:
        print(f"nothing to remove at {address_of(dsn)}", file=sys.stderr)
    if left:
        raise typer.Exit(LEFT)


def _settings(source: str | None, chosen: dict[str, str]) -> Settings:
    """Return the home's settings if it captures this source, else the defaults; with the chosen names.

    Raises: HeadwaterError if no source is known, or this home's stack still runs on it.
    """
    from app.environment.profile import Profile
    from app.environment.settings import Settings, load

    home = load()
    same = not home.profile.embedded_source and (
        source is None or _same_database(source, home.source_dsn)
    )
    if source is None and not same:
        raise HeadwaterError(
            "name the database to leave: this home captures its own store",
            hint="./headwater detach --source postgresql://owner@db.example:5432/shop",
        )
    if same:
        _refuse_running(home)
    profile = home.profile if same else Profile(port_offset=home.profile.port_offset)
    return Settings(home.home, _named(profile, chosen), source=home.source if same else "")


def _named(profile: Profile, chosen: dict[str, str]) -> Profile:
    from app.environment.profile import Profile

    return Profile.model_validate({**profile.model_dump(), **chosen})


def _same_database(one: str, other: str) -> bool:
    from app.source.database import address_of

    a, b = address_of(one), address_of(other)
    return (a.host, a.port, a.database) == (b.host, b.port, b.database)


def _refuse_running(settings: Settings) -> None:
    from app.launcher.state import Home
    from app.source.detach import in_use

    home = Home(settings.home)
    if home.is_supervised() and "connect" in home.wanted().services:
        raise in_use(f"the stack of {settings.home} runs")


def _refuse_standby(row: tuple[bool] | tuple[()] | None) -> None:
    if row and row[0]:
        raise HeadwaterError(
            "the database is a standby: what is to be removed is removed on its primary",
            hint="give the primary's address",
        )


def _carry_out(connection: Connection, found: Plan, settings: Settings) -> bool:
    """Run the permitted steps; print the SQL of the others on stdout. Returns: whether there are others."""
    from app.source.detach import block, carry_out

    left = carry_out(
        connection,
        found.steps,
        drop_slot=_slot_dropper(settings),
        report=lambda text: print(text, file=sys.stderr, flush=True),
    )
    for step, why in left:
        print(f"left: {step.what}{f': {why}' if why else ''}", file=sys.stderr)
    if left:
        print("hint: run what is printed as a superuser, then this again", file=sys.stderr)
        print(block([step for step, _ in left]))
    return bool(left)


def _slot_dropper(settings: Settings) -> Callable[[Step], None] | None:
    """Return a function that drops the slot as the capture role; None without its password."""
    known = settings.profile.capture_dsn or (settings.home / "secrets.json").exists()
    if settings.profile.embedded_source or not known:
        return None
    from app.source.database import connect

    def drop(step: Step) -> None:
        with connect(settings.capture_dsn, application=APPLICATION) as session:
            for statement in step.statements:
                session.execute(statement)

    return drop


def _show(found: Plan, address: Address) -> None:
    """Print the plan: SQL on stdout, remaining objects on stderr."""
    mine, others = found.block(allowed=True), found.block(allowed=False)
    if mine:
        print(
            f"-- Removes what Headwater has put into {address}; run it with the stack down.\n{mine}"
        )
    if others:
        print(f"-- To be run by a superuser: {address.user} may not.\n{others}")
    _print_kept(found)
    if not found.steps:
        print(f"nothing to remove at {address}", file=sys.stderr)
        return
    print("hint: --apply runs this", file=sys.stderr)


def _print_kept(found: Plan) -> None:
    for line in found.kept:
        print(f"stays: {line}", file=sys.stderr)


def detach_command(dsn: str, names: Mapping[str, str]) -> str:
    """Return the command that detaches this source, without secrets; it works without the home, too.

    Args:
        names: those of `slot_name`, `publication_name` and `capture_role` that were chosen.
    """
    from app.environment.dsn import without_secrets
    from app.environment.profile import Profile

    words = ["./headwater", "detach", "--source", without_secrets(dsn)]
    for option, key in OPTIONS.items():
        if names.get(key, Profile.model_fields[key].default) != Profile.model_fields[key].default:
            words += [option, names[key]]
    return shlex.join([*words, "--apply"])
