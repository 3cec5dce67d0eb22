"""Notebooks in the home: changed ones are kept, unchanged ones follow the project's."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.notebooks.shipped_copies import put_shipped


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "a.py").write_text("one")
    (folder / "b.py").write_text("one")
    return folder


def test_they_are_put_there_once(tmp_path: Path, shipped: Path) -> None:
    folder = tmp_path / "notebooks"
    assert put_shipped(folder, shipped) == ["a.py", "b.py"]
    assert (folder / "a.py").read_text() == "one"
    assert put_shipped(folder, shipped) == []


def test_a_changed_one_stays_and_another_follows_the_project(tmp_path: Path, shipped: Path) -> None:
    folder = tmp_path / "notebooks"
    put_shipped(folder, shipped)
    (folder / "a.py").write_text("mine")
    for name in ("a.py", "b.py", "c.py"):
        (shipped / name).write_text("two")
    assert put_shipped(folder, shipped) == ["b.py", "c.py"]
    assert [(folder / name).read_text() for name in ("a.py", "b.py")] == ["mine", "two"]
    assert put_shipped(folder, shipped) == []


def test_a_removed_one_does_not_come_back(tmp_path: Path, shipped: Path) -> None:
    folder = tmp_path / "notebooks"
    put_shipped(folder, shipped)
    (folder / "a.py").unlink()
    (shipped / "a.py").write_text("two")
    assert put_shipped(folder, shipped) == []
    assert not (folder / "a.py").exists()


def test_a_file_of_ones_own_with_such_a_name_is_left_alone(tmp_path: Path, shipped: Path) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "a.py").write_text("mine")
    assert put_shipped(folder, shipped) == ["b.py"]
    assert (folder / "a.py").read_text() == "mine"
