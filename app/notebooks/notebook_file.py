"""Checks notebooks, which are marimo's `.py` files, and converts Jupyter's `.ipynb` files to them."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import HeadwaterError
from app.notebooks.marimo_program import marimo, marimo_variables, prepared_environment

JUPYTER = ".ipynb"
NBFORMAT_MIN = 4
CONVERT_TIMEOUT_S = 120
_NOT_PYTHON = "# magic command not supported"  # marimo's own remark above such a line
_MAKE_ONE = "`./headwater up --only notebooks` makes notebooks; a Jupyter one ends with `.ipynb`"
Mistake = tuple[int, str, str]  # line, message, hint


def notebook_mistakes(path: Path) -> list[Mistake]:
    """Return why a file cannot run as a notebook; [] if it can."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [(1, f"cannot be read: {error}", "")]
    if path.suffix == JUPYTER:
        return _jupyter_mistakes(text)
    if path.suffix != ".py":
        return [(1, f"`{path.name}` is not a notebook", _MAKE_ONE)]
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return [(error.lineno or 1, f"no Python: {error.msg}", "")]
    if not any(_makes_app(node) for node in tree.body):
        hint = f"it has no `app = marimo.App()`; for a program use a task of kind `python`; {_MAKE_ONE}"
        return [(1, f"`{path.name}` is not a marimo notebook", hint)]
    return []


def _makes_app(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("marimo.App(")


def _jupyter_mistakes(text: str) -> list[Mistake]:
    try:
        found: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return [
            (
                error.lineno,
                f"not a Jupyter notebook: {error.msg}",
                "Jupyter notebooks are JSON files",
            )
        ]
    if not isinstance(found, dict) or not isinstance(found.get("nbformat"), int):
        return [(1, "not a Jupyter notebook: it has no `nbformat`", "save it in Jupyter again")]
    if found["nbformat"] < NBFORMAT_MIN or not isinstance(found.get("cells"), list):
        message = f"its format {found['nbformat']} is older than {NBFORMAT_MIN}, the oldest that can be read"
        return [(1, message, "open it in Jupyter and save it again")]
    metadata = found.get("metadata")
    kernel = metadata.get("kernelspec", {}) if isinstance(metadata, dict) else {}
    language = kernel.get("language", "python") if isinstance(kernel, dict) else "python"
    if language != "python":
        return [(1, f"its language is {language}", "notebooks are in Python")]
    return []


def convert_notebook(
    source: Path, target: Path, environment: Callable[[], Path] = prepared_environment
) -> str:
    """Convert a Jupyter notebook to marimo's `.py`, without its outputs.

    Returns: a line about the changes for the user. Raises: HeadwaterError if it cannot be converted.
    """
    if mistakes := notebook_mistakes(source):
        _, message, hint = mistakes[0]
        raise HeadwaterError(f"{source} cannot be converted", detail=message, hint=hint)
    with tempfile.TemporaryDirectory(prefix="headwater-notebook-") as folder:
        made = Path(folder) / target.name
        command = marimo(environment(), "convert", str(source.resolve()), "-o", str(made))
        variables = {**os.environ, **marimo_variables(), "XDG_CONFIG_HOME": folder}
        done = subprocess.run(
            command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=CONVERT_TIMEOUT_S,
        )  # fmt: skip
        problem = done.stdout.strip().splitlines()[-1:] if done.returncode else []
        if not problem and (wrong := notebook_mistakes(made)):
            problem = [f"line {wrong[0][0]} of the converted file: {wrong[0][1]}"]
        if done.returncode or problem:
            raise HeadwaterError(
                f"{source} cannot be converted",
                detail="".join(problem) or f"marimo ended with {done.returncode}",
                hint="run its cells in Jupyter from top to bottom, and save it",
            )
        text = made.read_text(encoding="utf-8")
    target.write_text(text, encoding="utf-8")
    left = text.count(_NOT_PYTHON)
    remark = f", in which {left} magic commands are now comments" if left else ""
    return f"converted {source.name}{remark}"
