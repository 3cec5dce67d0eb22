"""Builds the site from `docs/` and the READMEs: MkDocs, in strict mode and an environment of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import zlib
from pathlib import Path

from app.artefacts.bootstrap import BootstrapError, make_environment
from app.errors import HeadwaterError

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "docs.lock"
BUILD_S_MAX = 300


def build(out: Path, config: Path = ROOT / "mkdocs.yml") -> None:
    """Build the site into the folder `out`; replace its contents.

    Raises: HeadwaterError if a link is broken, or the environment cannot be made.
    """
    venv = environment()
    python = str(venv / "bin" / "python")
    ended = subprocess.run(
        [python, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", out.resolve()],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_S_MAX,
    )
    if ended.returncode != 0:
        raise HeadwaterError(
            "the site was not built",
            detail=ended.stdout,
            hint="repair the causes of MkDocs' warnings",
        )


def environment() -> Path:
    """Return the folder of MkDocs' environment; create it if it does not exist."""
    from app.artefacts.locking.cache import default_cache

    python = f"py{sys.version_info[0]}.{sys.version_info[1]}-{platform.machine()}"
    venv = default_cache() / "venv" / f"docs-{python}-{zlib.crc32(LOCK.read_bytes()):08x}"
    try:
        make_environment(venv, LOCK, "docs")
    except BootstrapError as error:
        raise HeadwaterError(str(error)) from error
    return venv
