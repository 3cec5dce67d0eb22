"""Makes groups of artefacts ready for use: fetched, unpacked, compiled, each in a folder.

    artefacts = Artefacts(root)
    artefacts.prepare(["kafka", "bronze-sink"])
    artefacts.classpath("kafka")        # its jars
    artefacts.directory("bronze-sink")  # its folder

A folder is named by a hash of its inputs, built under another name and renamed. So a folder under its name is
complete, and clones of different versions share one cache. Python
environments cannot be moved: they are made in their place, and a mark in them says that they are
whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from lzma import LZMAError
from pathlib import Path

from app.artefacts.archives import unpack
from app.artefacts.bootstrap import BootstrapError, complete_mark, make_environment
from app.artefacts.cache_claims import claim, fetching
from app.artefacts.compile import (
    compile_sources,
    jars_of_packages,
    java,
    require_java,
    share_classes,
    sources_hash,
)
from app.artefacts.download import sha256_of
from app.artefacts.download_progress import FetchProgress, Quiet
from app.artefacts.fetch import Fetcher, missing_files
from app.artefacts.locking.artefact_requirements import read_requirements
from app.artefacts.locking.cache import (
    default_cache,
    exclusive,
    file_path,
    make_folder,
    scratch_folder,
)
from app.artefacts.locking.lock import LockedFile, read_lock
from app.artefacts.locking.repository import find_repository, local_maven_folder
from app.errors import HeadwaterError

BUILD_WAIT_S = 900.0
_FORMAT = 1  # part of each folder's hash: raise it when the same inputs give another folder
_WAIT_STEP_S = 0.2
_BROKEN_ARCHIVE = (
    OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, LZMAError, zlib.error,
)  # fmt: skip


class Artefacts:
    """The groups of one clone's `artefacts.toml`, in one cache."""

    def __init__(
        self,
        root: Path,
        cache: Path | None = None,
        *,
        progress: FetchProgress | None = None,
        fetcher: Fetcher | None = None,
        machine: str | None = None,
    ) -> None:
        """Read `artefacts.toml` and `artefacts.lock` of a clone; HeadwaterError if one cannot be read.

        Args:
            root: the clone.
            cache: folder shared by all clones; the default is `default_cache()`.
            progress: shows downloads.
            fetcher: fetches files; the default uses the user's repository.
            machine: whose binaries are meant; `platform.machine()` when None.
        """
        self.root = root
        self.cache = cache or default_cache()
        self._progress = progress or Quiet()
        self._fetcher = fetcher
        self._machine = machine or platform.machine()
        self._requirements = read_requirements(root)
        self._lock = read_lock(root)

    def groups(self) -> list[str]:
        return sorted(self._requirements.groups)

    def files(self, group: str) -> tuple[LockedFile, ...]:
        """The locked files of a group, including those of the groups that it uses."""
        return self._lock.files(self._requirements, self._on_this_machine(group))

    def missing(self, groups: Iterable[str]) -> list[LockedFile]:
        """Return the files that `prepare` would have to fetch."""
        needed = [file for name in self._unbuilt(groups) for file in self.files(name)]
        return missing_files(self.cache, needed)

    def prepare(self, groups: Iterable[str]) -> None:
        """Fetch and build the missing files of the groups and of their dependencies.

        Raises HeadwaterError.
        """
        share_classes(self.java())
        with self._claimed():
            unbuilt = self._unbuilt(groups)
            if not unbuilt:
                return
            require_java()  # sooner than after a gigabyte of downloads
            self._fetch([file for name in unbuilt for file in self.files(name)])
            for name in unbuilt:
                self._progress.building(name)
                self._build(name)

    def needs(self) -> set[str]:
        """Return all that this clone may use of the cache, as paths below it."""
        needs = set()
        environment = Path(sys.prefix).resolve()
        if environment.parent == (self.cache / "venv").resolve():
            needs.add(f"venv/{environment.name}")
        for name, group in self._requirements.groups.items():
            if group.machine not in ("", self._machine):
                continue
            # A required group that is not locked cannot exist.
            with suppress(HeadwaterError, OSError):
                needs.add(f"dist/{self._folder(name).name}")
                needs |= {f"artefacts/{file.sha256[:16]}" for file in self.files(name)}
        return needs

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Claim the files that this clone needs, so that `clean` keeps them."""
        if self.cache.is_dir() and not os.access(self.cache, os.W_OK):
            yield  # another user's cache, from which only that user can remove anything
            return
        with fetching(self.cache):
            claim(self.cache, self.root, self.needs())
            yield

    def directory(self, group: str) -> Path:
        """Return the folder of a prepared group: unpacked or compiled, or with its files."""
        group = self._on_this_machine(group)
        folder = self._folder(group)
        if not self._is_there(group):
            raise HeadwaterError(
                f"artefact group `{group}` is not there", hint="run `./headwater up`"
            )
        return folder

    def classpath(self, group: str) -> list[Path]:
        """The jars of a prepared group, sorted by name."""
        jars = sorted(
            (self.directory(group) / self._requirements.group(group).folder).glob("*.jar")
        )
        if not jars:
            raise HeadwaterError(f"artefact group `{group}` has no jars at its top level")
        return jars

    def java(self) -> Path:
        """The Java launcher of the running environment."""
        return java()

    def _unbuilt(self, groups: Iterable[str]) -> list[str]:
        """Return the groups to build, in order: missing ones, and those that they need."""
        wanted = [name for name in map(self._on_this_machine, groups) if not self._is_there(name)]
        return [n for n in self._requirements.build_order(wanted) if not self._is_there(n)]

    def _on_this_machine(self, name: str) -> str:
        return self._requirements.on_machine(name, self._machine)

    def _is_there(self, name: str) -> bool:
        folder = self._folder(name)
        if self._requirements.group(name).venv:
            return complete_mark(folder, name).exists()
        return folder.is_dir()

    def _fetch(self, files: list[LockedFile]) -> None:
        if missing_files(self.cache, files):
            fetcher = self._fetcher or Fetcher(
                self.cache, find_repository(), self._progress, local_maven_folder()
            )
            fetcher.fetch(files)

    def _folder(self, name: str) -> Path:
        group = self._requirements.group(name)
        parts: list[object] = [
            _FORMAT,
            [f"{file.coordinate} {file.sha256}" for file in self.files(name)],
        ]
        if group.folder:
            parts.append({"folder": group.folder})
        if group.unpack:
            parts.append(group.unpack.model_dump(mode="json"))
        if group.compile:
            parts.append(group.compile.model_dump(mode="json", exclude={"packages"}))
            parts += [jar.name for jar in jars_of_packages(group.compile.packages)]
            parts.append(sources_hash(self.root, group.compile))
            parts += [
                self._folder(n).name for n in (*group.compile.against, group.compile.compiler)
            ]
        if group.venv:
            # A new minor version of Python finds none of the old one's packages.
            parts += [list(sys.version_info[:2]), sha256_of(self.root / group.venv)]
        if group.with_main:
            parts.append("with_main")
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return self.cache / "dist" / f"{name}-{digest[:16]}"

    def _build(self, name: str) -> None:
        folder = self._folder(name)
        group = self._requirements.group(name)
        if group.venv:
            try:
                make_environment(folder, self.root / group.venv, name, with_main=group.with_main)
            except BootstrapError as error:
                raise HeadwaterError(str(error)) from error
            return
        give_up = time.monotonic() + BUILD_WAIT_S
        pause = threading.Event()

        def wait() -> None:
            pause.wait(_WAIT_STEP_S)
            if time.monotonic() > give_up:
                raise HeadwaterError(
                    f"another process builds artefact group `{name}` and does not finish",
                    detail=f"waited {BUILD_WAIT_S:.0f} s",
                    hint="is another `headwater` stuck? end it and start again",
                )

        with exclusive(self.cache / "dist" / f".{name}.guard", wait):
            if folder.is_dir():
                return
            with scratch_folder(self.cache) as scratch:
                built = scratch / name
                built.mkdir(mode=0o755)
                self._fill(name, built)
                make_folder(folder.parent)
                os.replace(built, folder)

    def _fill(self, name: str, built: Path) -> None:
        group = self._requirements.group(name)
        built = built / group.folder
        built.mkdir(exist_ok=True)
        if group.unpack:
            for file in self.files(name):
                archive = self._verified(file)
                try:
                    unpack(archive, group.unpack, built)
                except _BROKEN_ARCHIVE as error:
                    raise self._broken(file, archive, error) from error
        else:
            for file in self.files(name):
                link_or_copy(self._verified(file), built / file.coordinate.filename)
        if group.compile:
            against = [jar for need in group.compile.against for jar in self.classpath(need)]
            against += jars_of_packages(group.compile.packages)
            compile_sources(
                self.root,
                group.compile,
                compiler=self.classpath(group.compile.compiler),
                classpath=[*against, *sorted(built.rglob("*.jar"))],
                jar=built / group.compile.jar,
            )

    def _verified(self, file: LockedFile) -> Path:
        """The fetched file, hashed again: the cache may have been written to since it came."""
        path = file_path(self.cache, file)
        if sha256_of(path) != file.sha256:
            raise self._broken(file, path, ValueError("its checksum differs from the lock's"))
        return path

    def _broken(self, file: LockedFile, archive: Path, error: Exception) -> HeadwaterError:
        detail = f"{archive}: {type(error).__name__}: {error}"
        if archive.is_file() and sha256_of(archive) != file.sha256:
            archive.unlink()
            return HeadwaterError(
                f"{file.coordinate} was damaged in the cache",
                detail=detail,
                hint="it was removed; start again to download it",
            )
        return HeadwaterError(
            f"cannot unpack {file.coordinate}", detail=detail, hint="is the disk full?"
        )


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; copy it if the file system cannot link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
