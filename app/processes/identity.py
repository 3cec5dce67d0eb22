"""For a stack run as root: the user of unprivileged services, and folders that it can reach."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from app.errors import HeadwaterError
from app.processes.process import Identity

CANDIDATES = ("postgres", "nobody")
FALLBACK = Identity(65_534, 65_534)
# The folder of an unprivileged service if the home is in a folder closed to others (/root).
SHELTER = Path("/var/lib/headwater")


def unprivileged_identity() -> Identity:
    """Return the user for services that refuse to run as root."""
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(entry.pw_uid, entry.pw_gid)
    return FALLBACK


def can_enter(path: Path, identity: Identity) -> bool:
    """Whether `identity` may traverse every existing folder down to `path`, and `path` itself."""
    for folder in [path, *path.parents]:
        if not folder.exists():
            continue
        info = folder.stat()
        if info.st_uid == identity.uid:
            bit = stat.S_IXUSR
        elif info.st_gid == identity.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not info.st_mode & bit:
            return False
    return True


class Shelter:
    """Folders outside of a closed home, for one home and one unprivileged user."""

    def __init__(self, home: Path, identity: Identity, base: Path = SHELTER) -> None:
        self.identity = identity
        self.folder = base / hashlib.sha256(str(home).encode()).hexdigest()[:12]

    def place(self, inside: Path, kind: str, *, ours: bool = False) -> Path:
        """Make the folder `inside` of the home for the user; outside the home if it has to be.

        `inside` becomes a link if the user could not reach it. The folder belongs to the user. With
        `ours` it belongs to root, which writes there; the user then cannot redirect root's files by
        a link. Returns the real folder.
        """
        real = inside
        if not can_enter(inside.parent, self.identity):
            real = self.folder / kind / inside.name
            self._open(real.parent)
            if inside.is_symlink():
                inside.unlink()
            elif inside.is_dir() and not any(inside.iterdir()):
                inside.rmdir()
            elif inside.exists():
                raise HeadwaterError(
                    f"user {self.identity.uid} cannot reach {inside}",
                    hint=f"let others enter the folders above it: chmod o+x {inside.parent}",
                )
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.symlink_to(real)
        real.mkdir(parents=True, exist_ok=True, mode=0o700)
        if ours:
            take_back(real)
        else:
            give(real, self.identity)
        return real

    def copy(self, folder: Path) -> Path:
        """Return a folder of programs that the user can read: `folder` itself, or a copy made once."""
        if can_enter(folder, self.identity):
            return folder
        target = self.folder / "dist" / folder.name
        if not target.exists():
            self._open(target.parent)
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(folder, temporary, symlinks=True)
            temporary.chmod(0o755)
            os.replace(temporary, target)
        return target

    def _open(self, folder: Path) -> None:
        """Make `folder` and let everyone pass through it (not list it)."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for part in (folder, self.folder, self.folder.parent):
                part.chmod(0o711)
        except OSError as error:
            raise HeadwaterError(
                f"user {self.identity.uid} can reach neither the home nor {self.folder}",
                detail=str(error),
                hint="set HEADWATER_HOME and HEADWATER_CACHE to folders that everyone may enter",
            ) from error


def give(path: Path, identity: Identity) -> None:
    """Make `identity` the owner of `path` and of root's files directly in it."""
    for item in [path, *path.iterdir()]:
        if item.lstat().st_uid == 0:
            os.chown(item, identity.uid, identity.gid, follow_symlinks=False)


def give_files(files: Iterable[Path], identity: Identity) -> None:
    """Make `identity` the owner of files that root has just made in a folder of its own."""
    for file in files:
        os.chown(file, identity.uid, identity.gid, follow_symlinks=False)


def take_back(folder: Path) -> None:
    """Give a folder back to root; others may pass through it, not list or change it.

    In an older version the folder belonged to the service's user. Anything other than plain files
    and folders that this user may have left there is removed.
    """
    os.chown(folder, os.geteuid(), os.getegid(), follow_symlinks=False)
    folder.chmod(0o711)
    for item in folder.iterdir():
        mode = item.lstat().st_mode
        if stat.S_ISDIR(mode):
            os.chown(item, os.geteuid(), os.getegid(), follow_symlinks=False)
            item.chmod(0o711)
        elif not stat.S_ISREG(mode) or item.lstat().st_nlink > 1:
            item.unlink()
