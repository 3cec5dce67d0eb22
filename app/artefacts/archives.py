"""Unpacks the archives that artefacts come in: zip and jar, tar.gz, tar.xz, an archive in a jar.

Nothing is written outside the target folder, whatever an archive's names say. The executable bit
is kept; all is readable by other users, since the embedded Postgres runs as one.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from app.artefacts.locking.artefact_requirements import Unpack
from app.errors import HeadwaterError

_BUFFER_BYTES = 1 << 20


def unpack(archive: Path, rule: Unpack, target: Path) -> None:
    """Unpack an archive by its rule into an existing, empty folder.

    Raises HeadwaterError if a name would leave the folder, or the rule finds nothing; the
    errors of a broken archive (OSError, EOFError, zipfile's, tarfile's, lzma's, zlib's) pass.
    """
    if rule.format == "zip":
        _unpack_zip(archive, rule, target)
    else:
        _unpack_tar(archive, rule, target)
    if not any(target.iterdir()):
        raise HeadwaterError(f"nothing in {archive.name} fits its unpack rule in artefacts.toml")


def _unpack_zip(archive: Path, rule: Unpack, target: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            name = _kept_name(member.filename, rule)
            if name is None or member.is_dir():
                continue
            path = _inside(target, name)
            with content.open(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, _BUFFER_BYTES)
            path.chmod(0o755 if (member.external_attr >> 16) & 0o100 else 0o644)


def _unpack_tar(archive: Path, rule: Unpack, target: Path) -> None:
    # A kept member may be a hard link to one that is not kept: then its content is wanted under
    # the first kept name. Streams cannot go back, so the names are read in a first pass.
    content_for = _linked_from_outside(archive, rule) if rule.include else {}
    written: dict[str, Path] = {}
    with _opened(archive, rule) as tar:
        for member in tar:
            name = _kept_name(member.name, rule)
            if member.isreg() and name is None and member.name in content_for:
                name = content_for[member.name]
            if name is None or member.isdir():
                continue
            path = _inside(target, name)
            if member.isreg():
                _write(tar, member, path)
                written[member.name] = path
            elif member.islnk():
                source = written.get(member.linkname)
                if source is None:
                    raise HeadwaterError(f"{archive.name}: {member.name} links to a missing file")
                if source != path:
                    os.link(source, path)
            elif member.issym():
                _refuse_outside(target, path.parent / member.linkname, member.name)
                path.symlink_to(member.linkname)


def _linked_from_outside(archive: Path, rule: Unpack) -> dict[str, str]:
    """For each member that is not kept itself: the first kept name that links to it."""
    found: dict[str, str] = {}
    with _opened(archive, rule) as tar:
        for member in tar:
            name = _kept_name(member.name, rule)
            if name is not None and member.islnk() and _kept_name(member.linkname, rule) is None:
                found.setdefault(member.linkname, name)
    return found


@contextmanager
def _opened(archive: Path, rule: Unpack) -> Iterator[tarfile.TarFile]:
    mode: Literal["r|gz", "r|xz"] = "r|gz" if rule.format == "tar.gz" else "r|xz"
    with _stream(archive, rule) as stream:
        with tarfile.open(fileobj=stream, mode=mode, bufsize=_BUFFER_BYTES) as tar:
            yield tar


@contextmanager
def _stream(archive: Path, rule: Unpack) -> Iterator[IO[bytes]]:
    if not rule.inner:
        with open(archive, "rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(archive) as jar:
        names = [name for name in jar.namelist() if fnmatchcase(name, rule.inner)]
        if len(names) != 1:
            raise HeadwaterError(
                f"{archive.name} holds {len(names)} files that fit `{rule.inner}`, not one"
            )
        with jar.open(names[0]) as stream:
            yield stream


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None
    with source, open(path, "wb") as sink:
        shutil.copyfileobj(source, sink, _BUFFER_BYTES)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _kept_name(member: str, rule: Unpack) -> str | None:
    """Return the member's path below the target folder; None if the rule leaves it out."""
    parts = PurePosixPath(member).parts  # which drops a leading `./`
    name = "/".join(parts[rule.strip :])
    if not name:
        return None
    if rule.include and not any(fnmatchcase(name, pattern) for pattern in rule.include):
        return None
    return name


def _inside(target: Path, name: str) -> Path:
    path = target / name
    _refuse_outside(target, path, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder of the archive may have become a link: check its real target.
    if not path.parent.resolve().is_relative_to(target.resolve()):
        raise HeadwaterError(f"the archive wants to write outside its folder: {name}")
    return path


def _refuse_outside(target: Path, path: Path, name: str) -> None:
    if not Path(os.path.normpath(path)).is_relative_to(target):
        raise HeadwaterError(f"the archive wants to write outside its folder: {name}")
