"""The project's command in a home of the test's own, without a stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.environment.settings import ROOT


def headwater(
    *arguments: str, home: Path, said: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """What `headwater ARGUMENTS` prints and ends with; `said` is its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env={**os.environ, "HEADWATER_HOME": str(home), **environment},
        input=said,
        capture_output=True,
        text=True,
        timeout=120,
    )
