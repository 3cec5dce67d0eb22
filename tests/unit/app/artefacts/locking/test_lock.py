"""The lock holds what artefacts.toml asks for, reads back as written, and names no host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.artefacts.dist import Artefacts
from app.artefacts.locking.artefact_requirements import (
    REQUIREMENTS_FILE,
    Requirements,
    read_requirements,
)
from app.artefacts.locking.coordinates import Coordinate
from app.artefacts.locking.lock import LOCK_FILE, Lock, LockedGroup, read_lock
from app.errors import HeadwaterError
from tests.support.maven import locked

ROOT = Path(__file__).resolve().parents[5]
REQUIREMENTS = read_requirements(ROOT)
LOCK = read_lock(ROOT)


@pytest.mark.parametrize("name", sorted(REQUIREMENTS.groups))
def test_each_group_is_locked_as_it_is_wished(name: str) -> None:
    files = LOCK.files(REQUIREMENTS, name)  # raises if the requirements have changed since
    assert set(REQUIREMENTS.group(name).coordinates) <= {file.coordinate for file in files}


def test_the_lock_has_no_group_that_nothing_requires() -> None:
    assert set(LOCK.groups) == set(REQUIREMENTS.groups)


@pytest.mark.parametrize("name", sorted(REQUIREMENTS.groups))
def test_no_locked_file_is_one_that_the_group_excludes(name: str) -> None:
    excluded = REQUIREMENTS.group(name).exclude
    found = [
        str(file.coordinate)
        for file in LOCK.groups[name].files
        if any(file.coordinate.matches(pattern) for pattern in excluded)
    ]
    assert found == []


def test_every_locked_file_has_a_size_and_a_whole_checksum() -> None:
    for group in LOCK.groups.values():
        for file in group.files:
            assert file.size > 0
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)


def test_one_coordinate_has_one_checksum_in_all_groups() -> None:
    known: dict[Coordinate, str] = {}
    for group in LOCK.groups.values():
        for file in group.files:
            assert known.setdefault(file.coordinate, file.sha256) == file.sha256


def test_the_lock_file_is_what_the_writer_would_write() -> None:
    text = (ROOT / LOCK_FILE).read_text(encoding="utf-8")
    assert Lock.parse(text).dump() == text


@pytest.mark.parametrize("name", [LOCK_FILE, REQUIREMENTS_FILE])
def test_neither_file_holds_an_address(name: str) -> None:
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


def test_a_wish_changed_since_is_an_error_that_names_the_command() -> None:
    old = Requirements.model_validate({"groups": {"a": {"description": "", "roots": ["g:a:1"]}}})
    new = Requirements.model_validate({"groups": {"a": {"description": "", "roots": ["g:a:2"]}}})
    lock = Lock({"a": LockedGroup(old.group("a").fingerprint(), (locked("g:a:1", b"a"),))})
    assert [str(file.coordinate) for file in lock.files(old, "a")] == ["g:a:1:jar"]
    with pytest.raises(HeadwaterError, match=r"in group `a`") as caught:
        lock.files(new, "a")
    assert "python -m app.artefacts.locking" in caught.value.hint


def test_a_group_has_the_files_of_the_groups_that_it_uses() -> None:
    requirements = Requirements.model_validate(
        {
            "groups": {
                "all": {"description": "", "uses": ["one", "two"]},
                "one": {"description": "", "roots": ["g:a:1", "g:b:1"]},
                "two": {"description": "", "roots": ["g:b:1"]},
            }
        }
    )
    a, b = locked("g:a:1", b"a"), locked("g:b:1", b"b")
    prints = {name: group.fingerprint() for name, group in requirements.groups.items()}
    files = {"all": (), "one": (a, b), "two": (b,)}
    lock = Lock({name: LockedGroup(prints[name], files[name]) for name in files})
    assert lock.files(requirements, "all") == (a, b)


@pytest.mark.parametrize(
    "text, path",
    [
        ("org.example:one:1.0", "org/example/one/1.0/one-1.0.jar"),
        ("org.example:one:1.0:tar.gz", "org/example/one/1.0/one-1.0.tar.gz"),
        ("org.example:one_2.13:1.0:tar.gz:plugin", "org/example/one_2.13/1.0/one_2.13-1.0-plugin.tar.gz"),
    ],
)  # fmt: skip
def test_a_coordinate_says_where_its_file_stands(text: str, path: str) -> None:
    coordinate = Coordinate.parse(text)
    assert coordinate.path == path
    assert Coordinate.parse(str(coordinate)) == coordinate


@pytest.mark.parametrize("text", ["a:b", "a:b:1:jar:c:d", "a:../b:1", "a:b:1/2", "a::1", "a:b:..1"])
def test_a_text_that_is_no_coordinate_is_refused(text: str) -> None:
    with pytest.raises(HeadwaterError, match="is not a Maven coordinate"):
        Coordinate.parse(text)


def test_an_unknown_key_in_the_requirements_is_named(tmp_path: Path) -> None:
    (tmp_path / REQUIREMENTS_FILE).write_text('[groups.a]\ndescription = ""\nroot = ["g:a:1"]\n')
    with pytest.raises(HeadwaterError) as caught:
        read_requirements(tmp_path)
    assert str(tmp_path / REQUIREMENTS_FILE) in caught.value.message
    assert "groups.a.root: Extra inputs are not permitted" in caught.value.detail


def test_groups_that_need_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / REQUIREMENTS_FILE).write_text(
        '[groups.a]\ndescription = ""\nuses = ["b"]\n[groups.b]\ndescription = ""\nuses = ["a"]\n'
    )
    with pytest.raises(HeadwaterError, match="in a circle: a -> b -> a"):
        read_requirements(tmp_path)


def test_what_a_group_is_compiled_with_is_built_before_it_and_what_it_uses_is_not() -> None:
    order = REQUIREMENTS.build_order(["bronze-sink", "kafka"])
    assert order == ["connect", "ecj", "bronze-sink", "kafka"]


def test_an_unknown_group_is_told_with_the_known_ones() -> None:
    with pytest.raises(HeadwaterError, match="no artefact group `kafkaa`") as caught:
        REQUIREMENTS.group("kafkaa")
    assert "kafka" in caught.value.hint


def test_a_damaged_lock_file_is_told(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text('[groups.a]\nwishes = "x"\nfiles = [{ size = 1 }]\n')
    with pytest.raises(HeadwaterError, match="cannot read"):
        read_lock(tmp_path)


@pytest.mark.parametrize(
    ("machine", "part"), [("x86_64", "linux-amd64"), ("aarch64", "linux-arm64v8")]
)
def test_postgres_is_the_one_of_the_machine(tmp_path: Path, machine: str, part: str) -> None:
    here = Artefacts(ROOT, tmp_path, machine=machine)
    assert [part in str(file.coordinate) for file in here.files("postgres")] == [True]
    assert [part in str(file.coordinate) for file in here.missing(["postgres"])] == [True]


def test_nothing_else_that_is_locked_is_for_one_processor_only() -> None:
    of_one = {
        name
        for name, group in LOCK.groups.items()
        for file in group.files
        if re.search(r"amd64|x86|arm64|aarch", file.coordinate.filename)
    }
    assert {name for name in of_one if not name.startswith("postgres")} == set()
