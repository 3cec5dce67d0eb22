"""The project's command in the test's own home, without a stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.environment.settings import ROOT


def headwater(
    *arguments: str, home: Path, said: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `headwater ARGUMENTS`. Returns: its output and exit code; `said` is its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env={**os.environ, "HEADWATER_HOME": str(home), **environment},
        input=said,
        capture_output=True,
        text=True,
        timeout=120,
    )
