"""Checks the services that a verb names, and those that it needs.

A verb checks first that they run, so that nobody waits for an answer that cannot come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import typer

from app.errors import HeadwaterError

if TYPE_CHECKING:
    from app.lake.patience import SilverState
    from app.launcher.control import Stack
    from app.services.service import Service


def require(*services: str) -> None:
    """Check that this home's stack is to run these services.

    One that the profile names as the user's own does not count.
    Raises: HeadwaterError with the names of those that do not run.
    """
    from app.environment.settings import load
    from app.launcher.state import Home

    settings = load()
    if settings.profile.in_containers:
        return  # compose was asked before this container was started
    home = Home(settings.home)
    running = home.wanted().services if home.is_supervised() else []
    profile = settings.profile
    own = {
        "postgres": profile.embedded_source,
        "s3": profile.embedded_s3,
        "kafka": profile.embedded_kafka,
        "connect": profile.connect_here,
        "trino": profile.trino_here,
    }
    missing = [name for name in services if own.get(name, True) and name not in running]
    if not missing:
        return
    if not running:
        raise HeadwaterError(
            "this stack is not running",
            detail=f"its home is {settings.home}",
            hint="start it: ./headwater up (another home: HEADWATER_HOME=FOLDER)",
        )
    only = " ".join(missing)
    raise HeadwaterError(
        f"this stack runs without {', '.join(missing)}", hint=f"./headwater up --only {only}"
    )


@cache
def _stack() -> Stack:
    from app.environment.settings import load
    from app.launcher.control import Stack

    return Stack(load())


def silver_state() -> SilverState:
    """Return the supervisor's state of the service `silver`; an empty state in a container."""
    from app.environment.ports import service_name
    from app.lake.patience import SilverState

    stack = _stack()
    if stack.settings.profile.in_containers:
        return SilverState()
    name = service_name("silver", stack.settings.source)
    if name not in stack.running():
        return SilverState("stopped", "this stack does not run it")
    [row] = stack.status([name])
    return SilverState(row.state, row.last_error)


def named_services(only: Sequence[str], more: Sequence[str] | None) -> list[str]:
    """Return the services that `up --only A B`, `--only A,B` or `--only A --only B` names.

    Raises: typer.BadParameter where services are named without `--only`.
    """
    names = [name for word in [*only, *(more or [])] for name in word.split(",") if name]
    if names and not only:
        raise typer.BadParameter(f"services are named after --only: up --only {' '.join(names)}")
    return names


def without_services(
    selected: Sequence[str], without: Sequence[str], services: Mapping[str, Service]
) -> list[str]:
    """Return `selected` without the names in `without` (each may hold several with commas), in order.

    Raises: HeadwaterError if there is no such service, or if a remaining service needs it.
    """
    names = [name for word in without for name in word.split(",") if name]
    if unknown := [name for name in names if name not in services]:
        known = ", ".join(services)
        raise HeadwaterError(f"there is no service `{unknown[0]}`", hint=f"known are {known}")
    kept = [name for name in selected if name not in names]
    for name in names:
        needing = [one for one in kept if name in services[one].depends_on]
        if needing:
            raise HeadwaterError(
                f"`{name}` cannot be left out",
                detail=f"needed by {', '.join(needing)}",
                hint=f"leave these out too: ./headwater up --without {','.join([name, *needing])}",
            )
    return kept


def open_stack() -> Stack:
    """Open the stack of the current home, with its saved settings."""
    from app.environment.settings import load
    from app.launcher.control import Stack

    return Stack(load())
