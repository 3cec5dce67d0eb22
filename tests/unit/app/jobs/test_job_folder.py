"""Jobs are copied into the home's folder with their files, and removed without files that others need."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import HeadwaterError
from app.jobs.job_folder import add_job, remove_job

TEXT = "[tasks.a]\nkind = 'python'\nfile = 'lib/a.py'\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "a.py").write_text("print(1)")
    (folder / "own.toml").write_text(TEXT)
    return folder / "own.toml"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_a_job_comes_with_the_files_that_it_names(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    assert add_job(source, folder).path == folder / "own.toml"
    assert names(folder) == ["lib/a.py", "own.toml"]
    assert add_job(source, folder).name == "own"  # the same again


def test_what_differs_is_replaced_on_demand_only(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    add_job(source, folder)
    (source.parent / "lib" / "a.py").write_text("print(2)")
    with pytest.raises(HeadwaterError, match="exists and differs") as caught:
        add_job(source, folder)
    assert "--replace" in caught.value.hint
    assert (folder / "lib" / "a.py").read_text() == "print(1)"
    add_job(source, folder, replace=True)
    assert (folder / "lib" / "a.py").read_text() == "print(2)"


def test_a_file_outside_the_jobs_folder_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("")
    source.write_text(TEXT.replace("lib/a.py", "../b.py"))
    with pytest.raises(HeadwaterError, match="is outside of the folder"):
        add_job(source, tmp_path / "jobs")
    assert not (tmp_path / "jobs").exists()


def test_a_file_that_another_job_names_stays(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    add_job(source, folder)
    (folder / "other.toml").write_text(TEXT)
    assert remove_job(folder, "own") == [folder / "own.toml"]
    assert remove_job(folder, "other") == [folder / "other.toml", folder / "lib" / "a.py"]
    assert remove_job(folder, "other") == []
    assert names(folder) == []


JUPYTER = "[tasks.a]\nkind = 'notebook'\nfile = 'sales.ipynb'\n"


def convert(source: Path, target: Path) -> str:
    """Replaces marimo, which an integration test uses."""
    target.write_text(f"import marimo\napp = marimo.App()\n# of {source.name}\n")
    return f"converted {source.name}"


@pytest.fixture
def jupyter(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "sales.ipynb").write_text('{"nbformat": 4, "cells": []}')
    (folder / "own.toml").write_text(JUPYTER)
    return folder / "own.toml"


def test_a_jupyter_notebook_is_converted_beside_itself_in_the_homes_folder(
    jupyter: Path, tmp_path: Path
) -> None:
    folder, said = tmp_path / "jobs", list[str]()
    add_job(jupyter, folder, convert=convert, told=said.append)
    assert names(folder) == ["own.toml", "sales.ipynb", "sales.py"]
    assert said == [f"converted sales.ipynb: {folder / 'sales.py'}"]
    assert names(jupyter.parent) == ["own.toml", "sales.ipynb"]
    assert remove_job(folder, "own") == [
        folder / "own.toml", folder / "sales.ipynb", folder / "sales.py",
    ]  # fmt: skip


def test_a_job_that_is_in_the_homes_folder_is_converted_there(jupyter: Path) -> None:
    add_job(jupyter, jupyter.parent, convert=convert)
    assert names(jupyter.parent) == ["own.toml", "sales.ipynb", "sales.py"]


def test_what_was_changed_after_its_conversion_is_replaced_on_demand_only(
    jupyter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "jobs"
    add_job(jupyter, folder, convert=convert)
    (folder / "sales.py").write_text("mine")
    with pytest.raises(HeadwaterError, match="exists and differs"):
        add_job(jupyter, folder, convert=convert)
    assert (folder / "sales.py").read_text() == "mine"


def test_a_notebook_that_would_become_a_file_which_the_job_names_is_refused(
    jupyter: Path, tmp_path: Path
) -> None:
    (jupyter.parent / "sales.py").write_text("print(1)")
    jupyter.write_text(f"{JUPYTER}[tasks.b]\nkind = 'python'\nfile = 'sales.py'\n")
    with pytest.raises(HeadwaterError, match=r"would be converted to `sales\.py`"):
        add_job(jupyter, tmp_path / "jobs", convert=convert)
    assert not (tmp_path / "jobs").exists()
