"""Services that a verb is given, and those that it needs running: told at once, before anybody
waits for an answer that cannot come."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from app.errors import HeadwaterError


def require(*services: str) -> None:
    """Return if this home's stack was asked to run these services.

    `postgres` and `s3` count only where they are the embedded ones.
    Raises: HeadwaterError that names those that are not running.
    """
    from app.launcher.state import Home
    from app.settings import load

    settings = load()
    if settings.in_containers:
        return  # compose was asked before this container was started
    home = Home(settings.home)
    running = home.wanted().services if home.is_supervised() else []
    own = {"postgres": settings.embedded_source, "s3": settings.embedded_s3}
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


def named_services(only: Sequence[str], more: Sequence[str] | None) -> list[str]:
    """The services that `up --only A B`, `--only A,B` or `--only A --only B` names.

    Raises: typer.BadParameter where services are named without `--only`.
    """
    names = [name for word in [*only, *(more or [])] for name in word.split(",") if name]
    if names and not only:
        raise typer.BadParameter(f"services are named after --only: up --only {' '.join(names)}")
    return names
