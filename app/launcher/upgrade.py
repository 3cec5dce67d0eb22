"""Upgrades the home of an older Headwater: refuses while that runs, else stamps the home."""

from __future__ import annotations

from typing import Protocol

from app.environment.settings import write_private
from app.environment.stamp import STAMP_FILE, current, is_older, read_stamp
from app.errors import HeadwaterError
from app.launcher.state import Home


class Notes(Protocol):
    """The output for users."""

    def note(self, text: str) -> None: ...


def refuse_older_supervisor(home: Home) -> None:
    """Raise HeadwaterError if services of an older Headwater still run.

    Two versions in one home would each write formats that the other cannot read.
    """
    if home.is_supervised() and is_older(home.path):
        raise HeadwaterError(
            f"this stack runs under an older Headwater, {read_stamp(home.path).headwater}",
            hint="stop it first: ./headwater down",
        )


def stamp_home(home: Home, notes: Notes) -> None:
    """Write the version stamp before this version writes anything else to the home.

    If the command is interrupted after that, the next `up` continues, and an older Headwater
    refuses the home.
    """
    path, mine = home.path / STAMP_FILE, current()
    if path.exists() and read_stamp(home.path) == mine:
        return
    if home.data("").is_dir():
        before = read_stamp(home.path).headwater
        notes.note(f"upgrading the home of Headwater {before} to {mine.headwater}")
    write_private(path, mine.text())
