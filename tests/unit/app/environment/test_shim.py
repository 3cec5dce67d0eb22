"""The shell script `./headwater`: which Python it uses, and its message if there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from app.environment.settings import ROOT


def shim(path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "headwater", "status"],
        env={"PATH": path, "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def tools(folder: Path) -> str:
    """A PATH that has what the script needs, and no Python."""
    for name in ("sh", "dirname", "uname"):
        (folder / name).symlink_to(shutil.which(name) or name)
    return str(folder)


def test_a_python_that_is_named_and_does_not_run_is_not_replaced_by_another(tmp_path: Path) -> None:
    ended = shim(f"{tools(tmp_path)}:{Path(sys.executable).parent}", HEADWATER_PYTHON="/no/python")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines() == [
        "HEADWATER_PYTHON names no Python 3.10 to 3.14 that runs: /no/python",
        "  hint: try it: /no/python --version",
    ]


def test_without_a_python_the_versions_that_do_are_named(tmp_path: Path) -> None:
    ended = shim(tools(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "no Python 3.10 to 3.14 was found on PATH",
        "  hint: install one, or name it: HEADWATER_PYTHON=/path/to/python3.12 ./headwater status; or"
        " run it in containers: docker compose up --wait --build (docs/containers.md)",
    ]
