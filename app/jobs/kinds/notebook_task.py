"""Runs a notebook without a page, a task of kind `notebook`.

    python -m app.jobs.kinds.notebook_task FILE PAGE ARGUMENT…

The notebook finds its arguments by `mo.cli_args()`. What its cells gave is kept as the HTML file PAGE, also where
one of them failed.
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

# Tables of rows are in the kept page as they are, not as what marimo's scripts draw.
_SETTINGS = (
    '[display]\ndataframes = "plain"\n[runtime]\nshow_tracebacks = true\n[ai]\nenabled = false\n'
)


def run_notebook(
    notebook: Path, page: Path, arguments: Sequence[str], environment: Path, cache: Path
) -> str:
    """Run every cell once, in this process's folder, and keep what they gave.

    Args:
        cache: what the next run need not make again: bytecode, the list of fonts.
    Returns: the first failure of a cell; "" where there is none.
    Raises: HeadwaterError where marimo could not run it at all.
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
            # marimo puts its session's file there too, in place of beside the notebook.
            "PYTHONPYCACHEPREFIX": str(cache / "python"),
        }
        command = marimo(environment, *words, *(("--", *arguments) if arguments else ()))
        # Of this session: what ends the task ends it too.
        code = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL).returncode
        if not export.exists():
            raise HeadwaterError(
                f"marimo could not run {notebook}", detail=f"it ended with {code}",
                hint="what it printed stands above",
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
    """Run it. Returns: 1 where it could not run, or a cell failed, which the last line says."""
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
