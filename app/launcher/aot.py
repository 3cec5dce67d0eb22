"""Ahead-of-time caches of the JVMs (JEP 483, 514, 515), which make their next start quicker.

A JVM that was started to record writes, when it is asked to end, the classes that it loaded and
linked, and which methods ran often. The next start maps that file: a stack is ready with a third
less CPU, and compiles less in its first minutes. The caches, `<cache>/aot/<service>-<hash>.aot`,
are shared by all clones; removing the folder only makes the next start slow once more.

A user's options (HEADWATER_JVM_OPTIONS) go to the same JVMs, which then have separate caches.

A JVM uses a cache only if JVM and class path (the jars' sizes and times) are the same as when the
cache was made. Otherwise it starts without one, and logs a line.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.artefacts.locking.cache import default_cache
from app.services.service import Service
from app.services.templates import Lookup, variables

VARIABLE = "aot"
SWITCH = "HEADWATER_AOT"  # `off`: neither record nor use
OPTIONS = "HEADWATER_JVM_OPTIONS"
# Writing takes 3 to 40 s on two cores, two or three JVMs at a time; longer beside other work.
WRITE_S_MAX = 180.0
DISK_FREE_MIN_BYTES = 3 << 30
# The JVMs' second compiler (C2) used 38 of the 88 CPU-seconds that a start took, mostly for code that only a start runs.
# With ten times the JVM's default thresholds a start takes 59 CPU-seconds; C2 compiles code that stays hot later.
LATE_SECOND_COMPILER = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)
KEPT = (
    2  # caches of a service, so that two clones of different versions do not replace each other's
)
PART_KEPT_S = 86_400.0
CRASHES = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL}

log = logging.getLogger("supervisor")


@dataclass(frozen=True)
class _Use:
    """What the latest start of a service does with its cache."""

    cache: Path
    part: Path | None  # the file that it writes, if it records


def records(service: Service) -> bool:
    """Whether a service's JVM takes the options of this module."""
    return any(VARIABLE in variables(word) for word in _words(service))


class AotCaches:
    """The caches of one stack's services."""

    def __init__(self, cache: Path | None = None) -> None:
        self.folder = (cache or default_cache()) / "aot"
        # Whether to record: only in a whole stack, because in a part of it the JVMs run too little
        # code.
        self.recording = False
        self._uses: dict[str, _Use] = {}

    def begin(
        self, service: Service, lookup: Lookup, options: Path, others: Sequence[str] = ()
    ) -> None:
        """Write the file of options for one start of a service; `others` are unrelated to caches."""
        self._uses.pop(service.name, None)
        arguments = []
        if records(service):
            arguments = [*others, *self._cache_options(service, lookup), *_options()]
        options.write_text("".join(f"{_quoted(word)}\n" for word in arguments))

    def _cache_options(self, service: Service, lookup: Lookup) -> list[str]:
        """Return the options with which a JVM uses or records its cache; none if it does neither."""
        use = None if os.environ.get(SWITCH) == "off" else self._choose(service, lookup)
        if use is None:
            return []
        self._uses[service.name] = use
        what = "AOTCacheOutput" if use.part else "AOTCache"
        # Otherwise it logs a thousand lines about classes that it leaves out.
        return [f"-XX:{what}={use.part or use.cache}", "-Xlog:aot*=error"]

    def _choose(self, service: Service, lookup: Lookup) -> _Use | None:
        cache = self.folder / f"{service.described_as}-{_key(service, lookup)}.aot"
        try:
            if cache.exists():
                os.utime(cache)  # the newest are kept
                return _Use(cache, None)
            if not self.recording or service.instance > 1:
                return None
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(".*.part*"):
                if time.time() - left.stat().st_mtime > PART_KEPT_S:
                    left.unlink()
            if shutil.disk_usage(self.folder).free < DISK_FREE_MIN_BYTES:
                return None
        except OSError as error:
            log.info("%s starts without its JVM start-up cache: %s", service.name, error)
            return None
        return _Use(cache, cache.with_name(f".{cache.stem}.{os.getpid()}.part"))

    def grace_s(self, service: Service) -> float:
        """Return how many seconds longer than usual a service may take to end."""
        use = self._uses.get(service.name)
        return WRITE_S_MAX if use is not None and use.part is not None else 0.0

    @property
    def writing(self) -> bool:
        """Whether a service writes its cache when it is asked to end."""
        return any(use.part is not None for use in self._uses.values())

    def ended(self, service: Service, code: int | None, *, asked: bool, ready: bool) -> None:
        """Keep the cache that a service wrote when asked to end; drop one that it failed with.

        Args:
            code: the exit code, or -SIGNAL; None if it was killed because a limit had passed.
            ready: whether the service was ready before.
        """
        use = self._uses.pop(service.name, None)
        if use is None:
            return
        with suppress(OSError):
            if use.part is not None:
                clean = asked and ready and code is not None and code >= 0
                if clean and use.part.exists():
                    os.replace(use.part, use.cache)
                    self._forget_old(service)
                    log.info("%s: wrote the JVM start-up cache %s", service.name, use.cache.name)
                for left in self.folder.glob(f"{use.part.name}*"):  # its intermediate files, too
                    left.unlink()
            elif not asked and (not ready or code in CRASHES):
                log.warning("%s: starts without its JVM start-up cache from now on", service.name)
                use.cache.unlink(missing_ok=True)

    def _forget_old(self, service: Service) -> None:
        pattern = f"{service.name}-{'[0-9a-f]' * 16}.aot"
        caches = sorted(self.folder.glob(pattern), key=lambda path: path.stat().st_mtime)
        for path in caches[:-KEPT]:
            path.unlink(missing_ok=True)


def _key(service: Service, lookup: Lookup) -> str:
    """Hash the inputs of a cache: the JVM, its options and jars, but not the stack's own paths."""
    words = _words(service)
    names = {name for word in words for name in variables(word)}
    jars = sorted(n for n in names if n == "java" or n.startswith(("classpath.", "dir.")))
    # The environment's path represents the Python packages, which include the JRE and Spark's jars.
    paths = [lookup(name) for name in ("python", *jars)]
    made_for = [words, paths, _options()]
    return hashlib.sha256(json.dumps(made_for).encode()).hexdigest()[:16]


def _options() -> list[str]:
    """Return the options for every JVM. The user's come last, because a JVM obeys the last value of an option."""
    return [*LATE_SECOND_COMPILER, *shlex.split(os.environ.get(OPTIONS, ""))]


def _words(service: Service) -> list[str]:
    """Return the templates of a service's command and environment."""
    return [*service.command, *service.environment.values()]


def _quoted(word: str) -> str:
    """Quote a word for a file of JVM options."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def whole(services: Iterable[Service], running: Iterable[str]) -> bool:
    """Whether all of `services` that can record are running."""
    return {one.name for one in services if one.default and records(one)} <= set(running)
