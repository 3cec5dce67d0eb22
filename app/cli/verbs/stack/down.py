"""`headwater down`: stop the stack, and remove its data where asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from app.cli.needs import open_stack
from app.cli.verbs.source.detach import OPTIONS, detach_command
from app.printing import Steps

if TYPE_CHECKING:
    from app.environment.settings import Settings


def down(
    wipe: bool = typer.Option(
        False, "--wipe", help="Also remove all data, settings and logs of this stack."
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask before --wipe."),
) -> None:
    """Stop the stack, dependents first.

    Data and settings stay, unless they are to be wiped. On a terminal `--wipe` asks first.

    Examples:
      ./headwater down
      ./headwater down --wipe --yes
    """
    stack = open_stack()
    if wipe and not yes and sys.stdin.isatty():
        typer.confirm(f"Remove all data under {stack.home.path}?", abort=True, err=True)
    with Steps() as steps:
        was_running = stack.down(steps, to_wipe=wipe)
        steps.rest()
        steps.note("stopped" if was_running else "nothing was running")
        for note in _slot_notes(wipe, stack.settings):
            steps.note(note)
        if wipe:
            steps.waiting("removing the data")
            stack.wipe()
            steps.rest()
            steps.note(f"removed the data under {stack.home.path}")


def _slot_notes(wiped: bool, settings: Settings) -> Iterator[str]:
    """One for each source of the user's own."""
    from app.environment.settings import of_source
    from app.environment.toml_files import SettingsError

    if not settings.profile.embedded_source:
        yield _slot_note(wiped, settings)
    for further in settings.profile.sources:
        try:
            yield _slot_note(wiped, of_source(settings, further.name))
        except SettingsError as error:  # without its address it may still be stopped
            slot = f"{settings.profile.slot_name}_{further.name}"
            yield f"note: the replication slot `{slot}` stays in the source `{further.name}`: {error}"


def _slot_note(wiped: bool, settings: Settings) -> str:
    names = settings.profile.model_dump(include=set(OPTIONS.values()))
    of = f" --from {settings.source}" if settings.source else ""
    kept = f"./headwater{of} detach --apply"
    command = detach_command(settings.source_dsn, names) if wiped else kept
    return slot_note(wiped, settings.profile.slot_name, command)


def slot_note(wiped: bool, slot: str, command: str) -> str:
    """Write the note on the replication slot, which stays in the user's database."""
    until = "until you drop it" if wiped else "until the stack runs again, or you drop it"
    return (
        f"note: the replication slot `{slot}` stays in your database and keeps WAL {until}: a slot that "
        "nobody reads fills its disk\n"
        f"  hint: to remove all that Headwater made there: {command}"
    )
