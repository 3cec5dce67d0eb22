"""How marimo is started: its own Python, with the main environment's packages behind its own, and nothing from outside."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from app.artefacts.bootstrap import MAIN_PACKAGES
from app.environment.settings import ROOT

GROUP = "notebooks"  # of artefacts


def prepared_environment() -> Path:
    """Return the folder of marimo's environment, made at its first use. Raises: HeadwaterError."""
    from app.artefacts.dist import Artefacts

    artefacts = Artefacts(ROOT)
    artefacts.prepare([GROUP])
    return artefacts.directory(GROUP)


def marimo(environment: Path, *words: str) -> list[str]:
    """Return a command of marimo: quiet, since its greeting prints the token, and asking nobody."""
    return [str(environment / "bin" / "python"), "-m", "marimo", "--quiet", "--yes", *words]


def marimo_variables() -> dict[str, str]:
    """Return the variables that marimo's Python needs beside those of the stack."""
    return {
        MAIN_PACKAGES: sysconfig.get_path("purelib"),
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        # No cell installs a package into an environment that all clones share.
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
    }
