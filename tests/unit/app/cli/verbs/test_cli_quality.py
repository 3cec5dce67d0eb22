"""`contract` and `quarantine` on the command line, as far as they work without a stack."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from app.environment.settings import load
from app.lake.quarantine_access import entry_name, place_named
from spark_streaming.events.event import Place
from spark_streaming.rules.contract_folder import check_files
from tests.support.command import headwater


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return headwater(*arguments, home=home, HEADWATER_PORT_OFFSET="29870")


def test_offline_check_tells_file_line_and_hint_and_exits_1(tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    folder.mkdir()
    (folder / "public.ratings.toml").write_text("[columns.stars]\nmini = 1\n")
    ended = run("contract", "check", "--offline", "--format", "json", home=tmp_path)
    assert ended.returncode == 1, ended.stderr
    [wrong] = [row for row in json.loads(ended.stdout) if row["verdict"] == "wrong"]
    assert wrong == {
        "file": str(folder / "public.ratings.toml"),
        "line": 2,
        "verdict": "wrong",
        "problem": "unknown key `mini`",
        "hint": "did you mean `min`?",
    }
    (folder / "public.ratings.toml").unlink()
    ended = run("contract", "check", "--offline", home=tmp_path)
    assert ended.returncode == 0, ended.stdout
    assert "public.ratings.toml" in ended.stdout


@pytest.mark.parametrize("words", [["contract", "check"], ["contract", "init"]])
def test_without_a_source_the_message_says_what_to_do(tmp_path: Path, words: list[str]) -> None:
    ended = run(*words, home=tmp_path)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "the source's catalog cannot be read" in ended.stderr
    assert "--offline" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_nothing_is_resolved_where_nothing_is_named(tmp_path: Path, verb: str) -> None:
    ended = run("quarantine", verb, home=tmp_path)
    assert ended.returncode == 1
    assert f"nothing is named to {verb}" in ended.stderr
    assert "--all" in ended.stderr


def test_an_entrys_name_is_read_back() -> None:
    place = Place("hw.public.orders", 3, 1200)
    assert place_named(entry_name(place)) == place
    assert [place_named(name) for name in ("orders", "a/1", "a/b/2", "/1/2")] == [None] * 4


def test_shipped_contracts_are_read_and_count_for_the_demo_store_only(tmp_path: Path) -> None:
    own = load(tmp_path)
    right, problems = check_files(own.contracts_folders, None)
    assert problems == []
    assert {"ratings", "payments", "customers"} <= {file.table for file in right}
    assert not any(column.mask for file in right for column in file.content.columns.values())
    other = load(tmp_path, source_dsn="postgresql://a:b@127.0.0.1:1/c")
    assert other.contracts_folders == [tmp_path / "contracts"]


def test_contracts_dir_may_be_a_folder_elsewhere(tmp_path: Path) -> None:
    assert load(tmp_path, contracts_dir="mine").contracts_dir == tmp_path / "mine"
    assert load(tmp_path, contracts_dir="/elsewhere").contracts_dir == Path("/elsewhere")
    variables = load(tmp_path, contracts_dir="mine").environment()
    assert variables["HEADWATER_CONTRACTS_PATH"].split(os.pathsep)[0] == str(tmp_path / "mine")
    assert len(variables["HEADWATER_MASK_SECRET"]) == 32
