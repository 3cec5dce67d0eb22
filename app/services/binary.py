"""Finds a service's requirements on the machine: a program, and a Python version that its packages support."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from app.services.description_parts import Binary
from app.services.service import Service


def find_binary(binary: Binary) -> Path | None:
    """Return the program's path; None if this machine does not have it.

    `$HOME_VARIABLE/bin/NAME` comes before PATH: a variable that is set names that installation.
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
    """Whether the service can run on this machine and with this version of Python."""
    if _too_new(service):
        return False
    return service.requires_binary is None or find_binary(service.requires_binary) is not None


def how_to_get(service: Service) -> str:
    """Describe the missing requirement of an unavailable service, and how to get it."""
    if _too_new(service):
        limit = service.requires_python
        assert limit is not None
        version = ".".join(map(str, sys.version_info[:2]))
        return f"no packages for Python {version}, at most {limit.newest}; to have it: {limit.get}"
    needed = service.requires_binary
    assert needed is not None
    return f"`{needed.names[0]}` is not on this machine; to have it: {needed.get}"


def _too_new(service: Service) -> bool:
    limit = service.requires_python
    return limit is not None and sys.version_info[:2] > tuple(map(int, limit.newest.split(".")))
