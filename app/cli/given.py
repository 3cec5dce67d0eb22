"""The source's address as a user gives it: `--source`, one line of stdin, or `HEADWATER_SOURCE_DSN`."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import HeadwaterError

if TYPE_CHECKING:
    from app.environment.settings import Settings

VARIABLE = "HEADWATER_SOURCE_DSN"
SOURCE_HELP = (
    "postgresql://…, `service=NAME`, or `-` for one line of stdin; else HEADWATER_SOURCE_DSN. "
    "Passwords: ~/.pgpass, PGPASSWORD."
)


def given_source(option: str | None) -> str | None:
    """Return the given address of the source, completed by libpq's rules; None if none was given.

    Raises: HeadwaterError if it cannot be used.
    """
    from app.source.database import address_of
    from app.source.given_source import complete, holds_password

    given = option or os.environ.get(VARIABLE)
    if option == "-":
        given = _line()
    if not given:
        return None
    completed = complete(given)
    if option is None:  # it may have been set long ago, in another file
        print(f"the source is {address_of(completed.dsn)}, from {VARIABLE}", file=sys.stderr)
    for note in completed.notes:
        print(f"note: {note}", file=sys.stderr)
    if option == given and holds_password(given):
        print(
            "note: others on this machine can read a password on a command line\n"
            f"  hint: give the address in {VARIABLE} or by `--source -`, or the password in ~/.pgpass",
            file=sys.stderr,
        )
    return completed.dsn


def settings_with(profile: Path | None, source: str | None, **overrides: Any) -> Settings:
    """Load the home's settings with the profile and the given source, its address completed.

    Raises: HeadwaterError if the source cannot be used; SettingsError.
    """
    from app.environment.libpq_variables import FILES, GIVEN
    from app.environment.settings import load
    from app.source.given_source import complete

    given = given_source(source)
    settings = load(None, profile, source_dsn=given, **overrides)
    if profile is None:
        return settings
    completed: dict[str, str] = {}
    if given is None and not settings.profile.embedded_source:
        completed["source_dsn"] = complete(settings.source_dsn).dsn
    if settings.profile.capture_dsn is not None:  # of another role: the variables are the owner's
        files = {name: value for name, value in GIVEN.items() if name in FILES}
        completed["capture_dsn"] = complete(settings.capture_dsn, files).dsn
    return load(None, profile, **{"source_dsn": given, **overrides, **completed})


def _line() -> str:
    if sys.stdin.isatty():
        line = getpass.getpass("the source's address (it is not shown): ")
    else:
        line = sys.stdin.readline()
    if not line.strip():
        raise HeadwaterError(
            "`--source -` reads the source's address from stdin, and nothing came",
            hint="./headwater up --source - <FILE, with the address in its first line",
        )
    return line.strip()
