"""Starts marimo's server in place of itself: `python -m app.notebooks.notebook_server ENVIRONMENT FOLDER HOST PORT TOKEN-FILE`.

It first copies the shipped notebooks into FOLDER; users edit the notebooks there. The token is read from
its file, so that no command line shows it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.notebooks.marimo_program import marimo, marimo_variables
from app.notebooks.shipped_copies import put_shipped

NICE = 5  # below the stream and its queries, above jobs


def main(arguments: Sequence[str]) -> None:
    """Copy the notebooks into their folder, then replace this process by marimo."""
    environment, folder, host, port, token = arguments
    for name in put_shipped(Path(folder)):
        print(f"wrote {Path(folder) / name}", file=sys.stderr, flush=True)
    command = marimo(
        Path(environment), "edit", folder, "--headless", "--host", host, "--port", port,
        "--token-password-file", token, "--skip-update-check", "--no-sandbox",
    )  # fmt: skip
    os.nice(NICE)
    os.chdir(folder)
    os.execve(command[0], command, {**os.environ, **marimo_variables()})


if __name__ == "__main__":
    main(sys.argv[1:])
