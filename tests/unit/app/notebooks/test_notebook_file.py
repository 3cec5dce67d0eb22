"""A file that is not a notebook is reported with its line before anything is converted or run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import HeadwaterError
from app.notebooks.notebook_file import convert_notebook, notebook_mistakes
from app.notebooks.shipped_copies import SHIPPED

MARIMO = "import marimo\n\napp = marimo.App()\n"
CELLS = {"nbformat": 4, "cells": []}


def test_what_comes_with_the_project_are_notebooks() -> None:
    paths = sorted(SHIPPED.glob("*.py"))
    assert [path.stem for path in paths] == [
        "churn_chances", "prices_then", "recommender_errors", "silver_by_sql", "time_travel",
    ]  # fmt: skip
    assert {path.stem: notebook_mistakes(path) for path in paths} == {
        path.stem: [] for path in paths
    }


@pytest.mark.parametrize(
    ("name", "text", "line", "message"),
    [
        ("a.py", "import marimo\nx = (\n", 2, "no Python: '(' was never closed"),
        ("a.py", "print(1)\n", 1, "`a.py` is not a marimo notebook"),
        ("a.py", "# app = marimo.App()\n", 1, "`a.py` is not a marimo notebook"),
        ("a.md", "# Text\n", 1, "`a.md` is not a notebook"),
        ("a.ipynb", "\n{", 2, "not a Jupyter notebook: Expecting property name"),
        ("a.ipynb", '{"cells": []}', 1, "it has no `nbformat`"),
        ("a.ipynb", "[]", 1, "it has no `nbformat`"),
        (
            "a.ipynb",
            '{"nbformat": 3, "worksheets": []}',
            1,
            "its format 3 is older than 4, the oldest",
        ),
        (
            "a.ipynb",
            json.dumps({**CELLS, "metadata": {"kernelspec": {"language": "R"}}}),
            1,
            "its language is R",
        ),
    ],
)
def test_a_file_that_is_no_notebook_is_refused_at_its_line(
    tmp_path: Path, name: str, text: str, line: int, message: str
) -> None:
    (tmp_path / name).write_text(text)
    [(found, said, _)] = notebook_mistakes(tmp_path / name)
    assert (found, message in said) == (line, True), said


def test_both_kinds_of_notebooks_are_right_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(MARIMO)
    (tmp_path / "a.ipynb").write_text(json.dumps({**CELLS, "metadata": {}}))
    assert [notebook_mistakes(tmp_path / name) for name in ("a.py", "a.ipynb")] == [[], []]


def test_what_cannot_be_converted_is_refused_before_marimo_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("no JSON")

    def never() -> Path:
        raise AssertionError("marimo was asked")

    with pytest.raises(HeadwaterError, match="cannot be converted") as caught:
        convert_notebook(tmp_path / "a.ipynb", tmp_path / "a.py", never)
    assert "not a Jupyter notebook" in caught.value.detail
    assert not (tmp_path / "a.py").exists()
