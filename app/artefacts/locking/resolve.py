"""Resolves the groups of `artefacts.toml` into a lock: closures by `jgo`, checksums by download.

1. The pom files of a group's roots give its closure, nearest version first, as Maven does.
2. Files that the old lock knows keep their entry: a released version never changes.
3. Each other file is downloaded into the cache, compared with the SHA-1 that the registry publishes beside it
   (with a message if there is none), and measured.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jgo.parse
import requests
from jgo.maven import POM, Artifact, MavenContext, ProfileConstraints, PythonResolver

from app.artefacts.locking.artefact_requirements import Group, Requirements
from app.artefacts.locking.cache import file_path, scratch_folder
from app.artefacts.locking.coordinates import Coordinate
from app.artefacts.locking.lock import Lock, LockedFile, LockedGroup
from app.artefacts.locking.repository import Repository, find_repository
from app.errors import HeadwaterError

TIMEOUT_S = 60
DOWNLOADS_AT_ONCE = 4
_CHUNK_BYTES = 1 << 18
_PARENT_VERSION = "${project.parent.version}"
# The closure must not depend on the machine that resolves it.
_PLATFORM = ProfileConstraints(jdk="25", os_name="Linux", os_family="unix", os_arch="amd64")


def resolve(requirements: Requirements, old: Lock, cache: Path) -> Lock:
    """Make the lock of all groups, and put their files into the cache.

    Raises HeadwaterError if the registry lacks a file of a closure, or serves a broken one.
    """
    repository = find_repository()
    known = {file.coordinate: file for group in old.groups.values() for file in group.files}
    chosen: dict[str, list[Coordinate]] = {}
    for name, group in requirements.groups.items():
        chosen[name] = _coordinates(group, repository, cache)
        print(f"{name}: {len(chosen[name])} files", file=sys.stderr, flush=True)
    new = sorted({each for group in chosen.values() for each in group} - set(known))
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        for file in pool.map(lambda each: _measure(each, repository, cache), new):
            print(f"  new: {file.coordinate} {file.size:,} bytes", file=sys.stderr, flush=True)
            known[file.coordinate] = file
    groups = {
        name: LockedGroup(
            requirements.group(name).fingerprint(),
            tuple(sorted(known[each] for each in coordinates)),
        )
        for name, coordinates in chosen.items()
    }
    lock = Lock(groups)
    for name in requirements.groups:
        _refuse_equal_names(name, lock.files(requirements, name))
    return lock


class _Resolver(PythonResolver):
    """Replaces `${project.parent.version}` in poms, which the AWS SDK uses and jgo does not know."""

    def download(self, artifact: Artifact) -> Path | None:
        path = super().download(artifact)
        if path is not None and artifact.packaging == "pom":
            parent = POM(path).value("parent/version")
            text = path.read_text(encoding="utf-8")
            if parent and _PARENT_VERSION in text:
                path.write_text(text.replace(_PARENT_VERSION, parent), encoding="utf-8")
        return path


class _Gaps(logging.Handler):
    """Collects poms that jgo could not get: jgo ignores them, and here they end the run."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("Could not build model"):
            self.messages.append(record.getMessage())


def _coordinates(group: Group, repository: Repository, cache: Path) -> list[Coordinate]:
    if not group.transitive:
        return list(group.coordinates)
    context = MavenContext(
        resolver=_Resolver(_PLATFORM),
        repo_cache=cache / "poms",
        remote_repos={"central": repository.url.rstrip("/")},
        timeout=TIMEOUT_S,
    )
    excluded = [context.project(*each.split(":", 1)) for each in group.exclude]
    roots = [
        context.create_dependency(
            # raw: as Maven does, a root's managed versions do not bind the other roots.
            jgo.parse.Coordinate(
                each.group,
                each.artifact,
                each.version,
                classifier=each.classifier or None,
                packaging=each.extension,
                raw=True,
            ),
            excluded,
        )
        for each in group.coordinates
    ]
    gaps, log = _Gaps(), logging.getLogger("jgo.maven._model")
    level, propagate = log.level, log.propagate
    log.addHandler(gaps)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        inputs, brought = context.resolver.resolve(roots)
    except (RuntimeError, ValueError, OSError) as error:
        raise HeadwaterError(
            f"cannot resolve {', '.join(group.roots)}", detail=str(error)
        ) from error
    finally:
        log.removeHandler(gaps)
        log.setLevel(level)
        log.propagate = propagate
    if gaps.messages:
        raise HeadwaterError(
            "the registry lacks a pom of this closure",
            detail="\n".join(gaps.messages),
            hint="pin another version, or exclude it",
        )
    found = {
        Coordinate(d.groupId, d.artifactId, d.version, d.type or "jar", d.classifier or "")
        for d in [*inputs, *brought]
    }
    kept = [each for each in found if not any(each.matches(p) for p in group.exclude)]
    return sorted(each for each in kept if each.extension != "pom")


def _measure(coordinate: Coordinate, repository: Repository, cache: Path) -> LockedFile:
    url = repository.url_of(coordinate.path)
    sha256, sha1, size = hashlib.sha256(), hashlib.sha1(), 0
    with scratch_folder(cache) as scratch:
        part = scratch / coordinate.filename
        try:
            published = requests.get(f"{url}.sha1", timeout=TIMEOUT_S, auth=repository.login)
            if published.status_code != 404:
                published.raise_for_status()
            answer = requests.get(url, stream=True, timeout=TIMEOUT_S, auth=repository.login)
            answer.raise_for_status()
            with answer, open(part, "wb") as sink:
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    sink.write(chunk)
                    sha256.update(chunk)
                    sha1.update(chunk)
                    size += len(chunk)
        except (requests.RequestException, OSError) as error:
            raise HeadwaterError(
                f"cannot get {coordinate}",
                detail=f"{repository.shown(coordinate.path)}: {_observed(error)}",
                hint="the registry has gaps: pin a version whose files are all there",
            ) from error
        if published.status_code == 404:
            print(f"  no published checksum to hold it against: {coordinate}", file=sys.stderr)
        elif published.text.split()[:1] != [sha1.hexdigest()]:
            raise HeadwaterError(
                f"{coordinate} is not the file that the registry published the checksum of",
                hint="run it again; if it stays so, pin another version",
            )
        file = LockedFile(coordinate, size, sha256.hexdigest())
        target = file_path(cache, file)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)
    return file


def _observed(error: Exception) -> str:
    # The text of an HTTP error holds the address, and with it a mirror's password.
    answer = error.response if isinstance(error, requests.RequestException) else None
    return type(error).__name__ if answer is None else f"HTTP {answer.status_code}"


def _refuse_equal_names(name: str, files: tuple[LockedFile, ...]) -> None:
    seen: dict[str, Coordinate] = {}
    for file in files:
        other = seen.setdefault(file.coordinate.filename, file.coordinate)
        if other != file.coordinate:
            raise HeadwaterError(
                f"group `{name}` has two files of one name: {other} and {file.coordinate}",
                hint="exclude one of them",
            )
