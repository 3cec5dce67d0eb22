"""Runs a notebook without marimo's page, for a task of kind `notebook`.

    python -m app.jobs.kinds.notebook_task FILE PAGE ARGUMENT…

The notebook reads its arguments with `mo.cli_args()`. The outputs of its cells are kept as the HTML file PAGE,
even if one of them failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from app.environment.settings import load
from app.errors import HeadwaterError
from app.launcher.state import Home
from app.notebooks.kept_page import cells_of, first_failure, page_of
from app.notebooks.marimo_program import marimo, marimo_variables, prepared_environment

# The kept page has tables as plain HTML, because marimo's scripts would have to draw others.
_SETTINGS = (
    '[display]\ndataframes = "plain"\n[runtime]\nshow_tracebacks = true\n[ai]\nenabled = false\n'
)


def run_notebook(
    notebook: Path, page: Path, arguments: Sequence[str], environment: Path, cache: Path
) -> str:
    """Run every cell once, in this process's folder, and keep their outputs.

    Args:
        cache: files that the next run can use again: bytecode, the list of fonts.
    Returns: the first failure of a cell; "" if none failed.
    Raises: HeadwaterError if marimo could not run the notebook.
    """
    started = datetime.now(timezone.utc)
    with tempfile.TemporaryDirectory(prefix="headwater-notebook-") as folder:
        settings = Path(folder) / "marimo" / "marimo.toml"
        settings.parent.mkdir()
        settings.write_text(_SETTINGS)
        export = Path(folder) / "export.html"
        words = ["export", "html", str(notebook), "-o", str(export), "--force", "--no-sandbox"]
        variables = {
            **os.environ,
            **marimo_variables(),
            "XDG_CONFIG_HOME": folder,
            "XDG_STATE_HOME": folder,
            "XDG_CACHE_HOME": str(cache),
            # marimo also puts its session's file there, and not beside the notebook.
            "PYTHONPYCACHEPREFIX": str(cache / "python"),
        }
        command = marimo(environment, *words, *(("--", *arguments) if arguments else ()))
        # In this session, so that it ends with the task.
        code = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL).returncode
        if not export.exists():
            raise HeadwaterError(
                f"marimo could not run {notebook}", detail=f"it ended with {code}",
                hint="its output is above",
            )  # fmt: skip
        cells = cells_of(export.read_text(encoding="utf-8"))
    seconds = (datetime.now(timezone.utc) - started).total_seconds()
    about = {
        "notebook": str(notebook),
        "arguments": " ".join(arguments) or "none",
        "run": f"{started:%Y-%m-%d %H:%M:%S} UTC, {seconds:.0f} s",
        "job": os.environ.get("HEADWATER_JOB", "none"),
    }
    page.write_text(page_of(notebook.stem, about, cells), encoding="utf-8")
    failure = first_failure(cells)
    return failure or (f"marimo ended with {code}" if code else "")


def main(arguments: Sequence[str]) -> int:
    """Run it. Returns: 1 if it could not run or a cell failed; the last line has the reason."""
    notebook, page, *rest = arguments
    try:
        cache = Home(load().home).data("notebooks") / "cache"
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        environment = prepared_environment()
        failure = run_notebook(Path(notebook).resolve(), Path(page), rest, environment, cache)
    except (HeadwaterError, OSError, ValueError) as error:
        failure = str(error)
    if failure:
        sys.stdout.flush()
        print(failure, file=sys.stderr)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
