"""Jobs are copied into the home's folder with what they name, and removed without what others need."""

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
    with pytest.raises(HeadwaterError, match="is there already") as caught:
        add_job(source, folder)
    assert "--replace" in caught.value.hint
    assert (folder / "lib" / "a.py").read_text() == "print(1)"
    add_job(source, folder, replace=True)
    assert (folder / "lib" / "a.py").read_text() == "print(2)"


def test_a_file_outside_the_jobs_folder_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("")
    source.write_text(TEXT.replace("lib/a.py", "../b.py"))
    with pytest.raises(HeadwaterError, match="lies outside the folder"):
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
