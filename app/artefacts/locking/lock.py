"""Reads and writes `artefacts.lock`: every file of every group, with its size and SHA-256.

Maintainers write it with `python -m app.artefacts.locking` after a change of `artefacts.toml`. It
holds neither addresses nor paths, so that any mirror serves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tomli

from app.artefacts.locking.artefact_requirements import REQUIREMENTS_FILE, Requirements
from app.artefacts.locking.coordinates import Coordinate
from app.errors import HeadwaterError

LOCK_FILE = "artefacts.lock"
LOCK_COMMAND = "python -m app.artefacts.locking"
_HEADER = f"""\
# Written by `{LOCK_COMMAND}` from {REQUIREMENTS_FILE}; not edited by hand.
# Every file of every group with its size in bytes and SHA-256. `wishes` is the hash of what
# {REQUIREMENTS_FILE} asked for when the group was resolved.
"""


@dataclass(frozen=True, order=True)
class LockedFile:
    """One file: its coordinate, its size in bytes, and the SHA-256 of its content (hex)."""

    coordinate: Coordinate
    size: int
    sha256: str


@dataclass(frozen=True)
class LockedGroup:
    fingerprint: str  # of the requirements that it was resolved from
    files: tuple[LockedFile, ...]


@dataclass(frozen=True)
class Lock:
    """All locked groups by name."""

    groups: dict[str, LockedGroup]

    def files(self, requirements: Requirements, name: str) -> tuple[LockedFile, ...]:
        """Return the files of a group and of those that it uses, each once, sorted by coordinate.

        Raises HeadwaterError if the lock does not match `artefacts.toml`.
        """
        files: set[LockedFile] = set()
        for part in [name, *requirements.group(name).uses]:
            locked = self.groups.get(part)
            if locked is None or locked.fingerprint != requirements.group(part).fingerprint():
                raise HeadwaterError(
                    f"{LOCK_FILE} does not hold what {REQUIREMENTS_FILE} asks for in group `{part}`",
                    hint=f"run `{LOCK_COMMAND}`, then commit both files",
                )
            files |= set(locked.files if part == name else self.files(requirements, part))
        return tuple(sorted(files))

    def dump(self) -> str:
        """Return the text of the lock file; the same lock always gives the same text."""
        lines = [_HEADER]
        for name, group in sorted(self.groups.items()):
            lines += [f"[groups.{name}]", f'wishes = "{group.fingerprint}"', "files = ["]
            lines += [
                f'  {{ coordinate = "{file.coordinate}", size = {file.size},'
                f' sha256 = "{file.sha256}" }},'
                for file in sorted(group.files)
            ]
            lines += ["]", ""]
        return "\n".join(lines)

    @classmethod
    def parse(cls, text: str) -> Lock:
        """Read a lock file's text; raises ValueError, KeyError or TypeError if it is not one."""
        groups: dict[str, LockedGroup] = {}
        for name, group in tomli.loads(text).get("groups", {}).items():
            files = tuple(
                LockedFile(Coordinate.parse(file["coordinate"]), int(file["size"]), file["sha256"])
                for file in group["files"]
            )
            groups[name] = LockedGroup(group["wishes"], files)
        return cls(groups)


def read_lock(root: Path) -> Lock:
    """Read `artefacts.lock` in the root of the clone; HeadwaterError if it cannot be read."""
    path = root / LOCK_FILE
    try:
        return Lock.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, HeadwaterError) as error:
        raise HeadwaterError(
            f"cannot read {path}",
            detail=str(error),
            hint=f"take it from git again, or run `{LOCK_COMMAND}`",
        ) from error
