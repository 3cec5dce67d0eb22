"""A backup of a PostgreSQL server, as its files."""

from __future__ import annotations

import subprocess
from pathlib import Path


def copied(cluster: Path, to: Path) -> None:
    """A backup of a cluster whose server is stopped: its files, as they are."""
    subprocess.run(["cp", "-a", str(cluster), str(to)], check=True)
