"""Checks that the machine and its folders can run Headwater, and finds the Python environment.

`machine_checks.py ROOT KIND` prints the folder of a clone's locked Python environment. It runs on
the system's Python with its standard library only, before anything is downloaded. The shell script
`headwater` has checked the version of Python already.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path

MACHINES = ("x86_64", "aarch64")
GLIBC_MIN = (2, 28)  # the wheels of the lock are `manylinux_2_28` or older
IN_CONTAINERS = "run it in containers: docker compose up --wait --build (docs/containers.md)"
# Class paths split at `:`, Kafka's and Connect's lists at `,`, a Java agent's options at `=`.
# Shells expand `$` and quote with `"` and `\`. In URLs and globs of Spark and Trino the rest are
# special.
PATH_CHARACTERS = " -_.+@~'()&/"


class UnsuitableMachine(Exception):
    """Headwater cannot run here; the message gives the reason in one sentence, and says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}"


def main(arguments: list[str]) -> int:
    root, kind = Path(arguments[0]), arguments[1]
    try:
        check_machine()
        cache = cache_folder()
        check_paths(root, cache)
        venv = environment_folder(root, cache)
        if not use(venv, kind):
            check_cache(cache)
    except UnsuitableMachine as error:
        print(error, file=sys.stderr)
        return 1
    print(venv)
    return 0


def check_machine() -> None:
    """Raise UnsuitableMachine if a locked package or program has no files for this machine."""
    machine = platform.machine()
    if machine not in MACHINES or sys.maxsize < 2**32:
        bits = "" if sys.maxsize > 2**32 else ", and Python is a 32-bit one"
        raise UnsuitableMachine(
            f"Headwater's native stack runs on {' and '.join(MACHINES)} with a 64-bit Python; "
            f"this is {machine or 'unknown'}{bits}",
            IN_CONTAINERS,
        )
    name, version = platform.libc_ver()
    if name != "glibc":
        raise UnsuitableMachine(
            "Headwater's native stack needs the C library glibc, for which its Java, DuckDB and lz4 "
            f"packages are made; this Python uses {name or 'another one (musl?)'}",
            IN_CONTAINERS,
        )
    if tuple(int(part) for part in version.split(".")[:2]) < GLIBC_MIN:
        needed = ".".join(map(str, GLIBC_MIN))
        raise UnsuitableMachine(
            f"Headwater's native stack needs glibc {needed} or newer; this is {version}",
            IN_CONTAINERS,
        )


def cache_folder() -> Path:
    """`HEADWATER_CACHE`, else `headwater` in `XDG_CACHE_HOME`, else in `.cache` of the user's home.

    Raises UnsuitableMachine if there is none of the three.
    """
    try:
        chosen = os.environ.get("HEADWATER_CACHE")
        if chosen:
            return Path(chosen).expanduser().absolute()
        base = os.environ.get("XDG_CACHE_HOME")
        # The home folder in the password file, if HOME is not set.
        return (Path(base).absolute() if base else Path.home() / ".cache") / "headwater"
    except RuntimeError as error:
        raise UnsuitableMachine(
            f"there is no place for the cache: HOME is not set, and user {os.getuid()} has no home "
            "folder",
            "name one: HEADWATER_CACHE=FOLDER",
        ) from error


def check_paths(root: Path, cache: Path) -> None:
    """Raise UnsuitableMachine if a path has a character that some program cannot handle."""
    home = Path(os.environ.get("HEADWATER_HOME") or root / ".stack")
    with suppress(RuntimeError):  # `~` of a user without a folder of his own
        home = home.expanduser()
    for path, what, way_on in (
        (root, "clone", "move it to another folder"),
        (cache, "cache", "choose another one: HEADWATER_CACHE=FOLDER"),
        (home.resolve(), "home", "choose another one: HEADWATER_HOME=FOLDER"),
    ):
        bad = sorted({one for one in str(path) if not allowed(one)})
        if bad:
            raise UnsuitableMachine(
                f"the path of the {what} has {' '.join(map(ascii, bad))}, which the settings of Java "
                f"or Kafka cannot hold: {shown(path)}",
                f"{way_on}; letters, digits, spaces and {PATH_CHARACTERS[1:-1]} may be in it",
            )


def allowed(character: str) -> bool:
    """Whether a path may have this character: letters of any script, with their marks, and digits."""
    return character in PATH_CHARACTERS or unicodedata.category(character)[0] in "LMN"


def shown(path: Path) -> str:
    """Return the path on one line, even if a name has line breaks or is not UTF-8."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(path))


def environment_folder(root: Path, cache: Path) -> Path:
    """The folder of the environment, named by its content.

    A changed lock makes a new environment, and clones with the same lock share one.
    """
    locks = [root / "requirements" / name for name in ("runtime.lock", "dev.lock")]
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return cache / "venv" / f"py{version}-{platform.machine()}-{digest[:16]}"


def use(venv: Path, kind: str) -> bool:
    """Whether the environment is complete; also marks it as used now, for `clean`."""
    mark = venv / f".complete-{kind}"
    if not mark.exists():
        return False
    with suppress(OSError):  # another user's cache, which this one may only read
        os.utime(mark)
    return True


def check_cache(cache: Path) -> None:
    """Raise UnsuitableMachine if the cache cannot be made or written, or programs cannot run in it.

    Makes nothing, because commands that need no packages work without a cache.
    """
    way_on = "put the cache elsewhere with HEADWATER_CACHE=FOLDER"
    there = next(folder for folder in (cache, *cache.parents) if os.path.lexists(folder))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "it is no folder" if not there.is_dir() else f"user {os.geteuid()} cannot write there"
        raise UnsuitableMachine(f"cannot write the cache folder {cache}: {there}: {why}", way_on)
    if os.statvfs(there).f_flag & os.ST_NOEXEC:
        raise UnsuitableMachine(
            f"no program can run from the cache folder {cache} (noexec)", way_on
        )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
