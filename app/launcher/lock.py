"""Reads and writes `artefacts.lock`: every file of every group, with its size and SHA-256.

Maintainers write it with `python -m app.launcher.lock` after a change of `artefacts.toml`. It
holds neither addresses nor paths, so that any mirror serves it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tomli

from app.launcher.coordinates import Coordinate
from app.launcher.errors import HeadwaterError
from app.launcher.wishes import WISHES_FILE, Wishes, read_wishes

LOCK_FILE = "artefacts.lock"
LOCK_COMMAND = "python -m app.launcher.lock"
_HEADER = f"""\
# Written by `{LOCK_COMMAND}` from {WISHES_FILE}; not edited by hand.
# Every file of every group with its size in bytes and SHA-256. `wishes` is the hash of what
# {WISHES_FILE} asked for when the group was resolved.
"""


@dataclass(frozen=True, order=True)
class LockedFile:
    """One file: which, how large (bytes), and the SHA-256 of its content (hex)."""

    coordinate: Coordinate
    size: int
    sha256: str


@dataclass(frozen=True)
class LockedGroup:
    wishes: str
    files: tuple[LockedFile, ...]


@dataclass(frozen=True)
class Lock:
    """All locked groups by name."""

    groups: dict[str, LockedGroup]

    def files(self, wishes: Wishes, name: str) -> tuple[LockedFile, ...]:
        """The files of a group and of those that it uses, each once, sorted by coordinate.

        Raises HeadwaterError where the lock does not hold what `artefacts.toml` asks for.
        """
        found: set[LockedFile] = set()
        for part in [name, *wishes.group(name).uses]:
            locked = self.groups.get(part)
            if locked is None or locked.wishes != wishes.group(part).fingerprint():
                raise HeadwaterError(
                    f"{LOCK_FILE} does not hold what {WISHES_FILE} asks for in group `{part}`",
                    hint=f"run `{LOCK_COMMAND}`, then commit both files",
                )
            found |= set(locked.files if part == name else self.files(wishes, part))
        return tuple(sorted(found))

    def dump(self) -> str:
        """The text of the lock file; the same lock always gives the same text."""
        lines = [_HEADER]
        for name, group in sorted(self.groups.items()):
            lines += [f"[groups.{name}]", f'wishes = "{group.wishes}"', "files = ["]
            lines += [
                f'  {{ coordinate = "{file.coordinate}", size = {file.size},'
                f' sha256 = "{file.sha256}" }},'
                for file in sorted(group.files)
            ]
            lines += ["]", ""]
        return "\n".join(lines)

    @classmethod
    def parse(cls, text: str) -> Lock:
        """Read a lock file's text; raises ValueError, KeyError or TypeError where it is not one."""
        groups: dict[str, LockedGroup] = {}
        for name, group in tomli.loads(text).get("groups", {}).items():
            files = tuple(
                LockedFile(Coordinate.parse(file["coordinate"]), int(file["size"]), file["sha256"])
                for file in group["files"]
            )
            groups[name] = LockedGroup(group["wishes"], files)
        return cls(groups)


def read_lock(root: Path) -> Lock:
    """Read `artefacts.lock` in the root of the clone; HeadwaterError where it cannot be read."""
    path = root / LOCK_FILE
    try:
        return Lock.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, HeadwaterError) as error:
        raise HeadwaterError(
            f"cannot read {path}",
            detail=str(error),
            hint=f"take it from git again, or run `{LOCK_COMMAND}`",
        ) from error


def main() -> int:
    # Only maintainers resolve: the resolver is not loaded by whoever just reads the lock.
    from app.launcher.cache import default_cache
    from app.launcher.resolve import resolve

    root = Path(__file__).resolve().parents[2]
    try:
        old = read_lock(root) if (root / LOCK_FILE).exists() else Lock({})
        new = resolve(read_wishes(root), old, default_cache())
        (root / LOCK_FILE).write_text(new.dump(), encoding="utf-8")
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
