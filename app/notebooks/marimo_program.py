"""marimo's command line: its own Python that also sees the main environment's packages, without network access."""

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
    """Return a command of marimo: quiet, because its greeting has the token, and without prompts."""
    return [str(environment / "bin" / "python"), "-m", "marimo", "--quiet", "--yes", *words]


def marimo_variables() -> dict[str, str]:
    """Return the variables that marimo's Python needs in addition to the stack's."""
    return {
        MAIN_PACKAGES: sysconfig.get_path("purelib"),
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        # Cells must not install packages, because all clones share the environment.
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
    }
