"""Reads TOML files of settings and descriptions, with errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli

from app.errors import HeadwaterError

# Marks a profile's key that has no use in containers, or that the stack itself sets there.
NATIVE = "only where the launcher starts the processes"


DESCRIPTION_FILE = "service.toml"  # describes a folder's services


class SettingsError(HeadwaterError):
    """A setting is unknown or wrong; the text names the key, the file and what to do."""


def description_files(root: Path) -> list[Path]:
    """List every `service.toml` of the clone: of its folders, and of those below `app/`."""
    found = (*root.glob(f"*/{DESCRIPTION_FILE}"), *root.glob(f"app/*/**/{DESCRIPTION_FILE}"))
    return sorted(found)


def read_toml(path: Path) -> dict[str, Any]:
    """Return a file's content. Raises: SettingsError if it is missing or not TOML."""
    try:
        return tomli.loads(path.read_text())
    except FileNotFoundError:
        raise SettingsError(f"no such file: {path}") from None
    except tomli.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
