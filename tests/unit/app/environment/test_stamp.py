"""The version stamp of a home is read, refused if it is newer, and written before anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.environment.settings import load
from app.environment.stamp import FORMATS, STAMP_FILE, current, is_older, read_stamp
from app.errors import HeadwaterError
from app.launcher.state import Home
from app.launcher.upgrade import refuse_older_supervisor, stamp_home
from tests.support.command import headwater


class Notes:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def newer(home: Path, **formats: int) -> None:
    home.mkdir(parents=True, exist_ok=True)
    stamp = {"headwater": "9.9.9", "formats": {**FORMATS, **formats}}
    (home / STAMP_FILE).write_text(json.dumps(stamp))


@pytest.mark.parametrize("verb", ["up", "down", "status", "verify", "urls"])
def test_a_newer_home_is_refused_in_one_sentence_before_anything_is_touched(
    tmp_path: Path, verb: str
) -> None:
    newer(tmp_path, bronze=FORMATS["bronze"] + 1)
    (tmp_path / "settings.toml").write_text('a_key_of_9 = "x"\n')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    ended = headwater(verb, home=tmp_path)
    assert (ended.returncode, ended.stdout) == (3 if verb == "verify" else 1, "")
    sentence, hint = ended.stderr.splitlines()
    assert (
        f"the home {tmp_path} belongs to a newer Headwater, 9.9.9, which keeps `bronze`" in sentence
    )
    assert "HEADWATER_HOME=FOLDER" in hint
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_format_that_only_a_newer_version_knows_is_refused(tmp_path: Path) -> None:
    newer(tmp_path, gold=1)
    with pytest.raises(HeadwaterError, match=r"keeps `gold` in format 1; .* knows none"):
        load(tmp_path)


def test_a_newer_version_that_changed_no_format_is_no_newer_home(tmp_path: Path) -> None:
    newer(tmp_path)
    assert load(tmp_path).home == tmp_path


def test_a_home_without_a_stamp_is_the_first_releases(tmp_path: Path) -> None:
    assert set(read_stamp(tmp_path).formats.values()) == {1}
    assert is_older(tmp_path)


def test_an_older_home_is_upgraded_once_and_said_so(tmp_path: Path) -> None:
    home, notes = Home(tmp_path), Notes()
    (tmp_path / "data").mkdir()
    stamp_home(home, notes)
    stamp_home(home, notes)
    assert [text.split(" Headwater ")[0] for text in notes.texts] == ["upgrading the home of"]
    assert read_stamp(tmp_path) == current()
    assert not is_older(tmp_path)


def test_a_new_home_is_stamped_silently(tmp_path: Path) -> None:
    notes = Notes()
    stamp_home(Home(tmp_path / "new"), notes)
    assert notes.texts == []
    assert read_stamp(tmp_path / "new") == current()


def test_an_older_stack_that_runs_is_to_be_stopped_first(tmp_path: Path) -> None:
    home = Home(tmp_path)
    refuse_older_supervisor(home)
    with home.supervising(), pytest.raises(HeadwaterError, match="an older Headwater") as caught:
        refuse_older_supervisor(home)
    assert "./headwater down" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"headwater": "1", "formats": {"state": "x"}}'])
def test_a_stamp_that_cannot_be_read_is_named_with_the_way_on(tmp_path: Path, text: str) -> None:
    (tmp_path / STAMP_FILE).write_text(text)
    with pytest.raises(HeadwaterError, match="version stamp") as caught:
        load(tmp_path)
    assert str(tmp_path / STAMP_FILE) in str(caught.value)
    assert "remove the file" in caught.value.hint
