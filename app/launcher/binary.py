"""Programs that a service needs from the machine: found on PATH, or in a folder that a variable names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from app.launcher.service import Binary, Service


def find_binary(binary: Binary) -> Path | None:
    """The program's path; None where this machine does not have it.

    `$HOME_VARIABLE/bin/NAME` comes before PATH: who sets the variable means that installation.
    """
    home = os.environ.get(binary.home_variable) if binary.home_variable else None
    for name in binary.names:
        if home:
            candidate = Path(home) / "bin" / name
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return candidate
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    return None


def is_available(service: Service) -> bool:
    """Whether the machine has the program that the service needs from it, if it needs one."""
    return service.requires_binary is None or find_binary(service.requires_binary) is not None


def how_to_get(service: Service) -> str:
    """What to tell where `is_available` is false: what is missing, and the way to get it."""
    needed = service.requires_binary
    assert needed is not None
    return f"`{needed.names[0]}` is not on this machine; to have it: {needed.get}"
