"""The stamp of a home, `version.json`: the Headwater that used it last, and its data formats.

A format's number increases when an older Headwater could not read a newer one's files. A newer one
reads every older format, so an upgrade needs no step of its own. A home without a stamp belongs to
the first release. Standard library only.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from app.errors import HeadwaterError

STAMP_FILE = "version.json"
ROOT = Path(__file__).resolve().parents[2]
# state: settings, secrets and the supervisor's files; bronze: objects and their headers;
# ops: the tables of `lake.ops`, including the ledger.
FORMATS = {"state": 2, "bronze": 2, "ops": 2}


@dataclass(frozen=True)
class Stamp:
    """The version of Headwater that started a home last, and its formats by name."""

    headwater: str
    formats: dict[str, int]

    def text(self) -> str:
        return json.dumps(asdict(self), indent=1)


FIRST_RELEASE = Stamp("0.1.0 (its first release)", dict.fromkeys(FORMATS, 1))


def version() -> str:
    """Headwater's version, from `pyproject.toml`."""
    found = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def current() -> Stamp:
    """The stamp of this Headwater."""
    return Stamp(version(), dict(FORMATS))


def read_stamp(home: Path) -> Stamp:
    """The stamp of a home that has been used; HeadwaterError if it cannot be read."""
    path = home / STAMP_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        formats = {str(name): int(number) for name, number in found["formats"].items()}
        return Stamp(str(found["headwater"]), formats)
    except FileNotFoundError:
        return FIRST_RELEASE
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeadwaterError(
            f"the version stamp of the home cannot be read: {path}",
            detail=f"{type(error).__name__}: {error}",
            hint="if this is the newest Headwater that used the home, remove the file: the next `up` "
            "writes it again",
        ) from error


def refuse_newer(home: Path) -> None:
    """Raise HeadwaterError if the home has a format of a newer Headwater that is unknown here."""
    found = read_stamp(home)
    for name, number in sorted(found.formats.items()):
        known = FORMATS.get(name, 0)
        if number > known:
            raise HeadwaterError(
                f"the home {home} belongs to a newer Headwater, {found.headwater}, which keeps `{name}` "
                f"in format {number}; this is {version()}, which knows {known or 'none'}",
                hint="use that version, or another home: HEADWATER_HOME=FOLDER",
            )


def is_older(home: Path) -> bool:
    """Whether some format of the home is older than this Headwater's."""
    found = read_stamp(home).formats
    return any(found.get(name, 0) < number for name, number in FORMATS.items())
