"""Shell completion in the real shells that the machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from app.cli import completion
from app.environment.settings import ROOT

HEADWATER = ROOT / "headwater"
# Completes the words after the first line like bash when TAB is pressed after them.
BASH = """
source <("$1" completion bash) || exit 9
COMP_WORDS=("${@:1}"); COMP_CWORD=$(( $# - 1 ))
[[ $(complete -p headwater) == *"-F _headwater_completion headwater" ]] || exit 9
_headwater_completion "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = '"$argv[1]" completion fish | source; complete --do-complete (string join " " $argv)'


def in_bash(home: Path, *words: str) -> list[str]:
    ended = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", str(HEADWATER), *words],
        env={**os.environ, "HEADWATER_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], ["status", "streams", "store"]),
        (["quarantine", ""], ["list", "show", "replay", "discard"]),
        (["logs", "superv"], ["supervisor"]),
        (["up", "--only", "kaf"], ["kafka"]),
        (["status", "--form"], ["--format"]),
        (["status", "--format", ""], ["table", "csv", "json"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["verify", ""], []),  # no stack is running
    ],
)
def test_bash_completes_verbs_options_and_services(
    tmp_path: Path, words: list[str], offered: list[str]
) -> None:
    assert in_bash(tmp_path, *words) == offered


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_verbs_with_their_meaning(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["fish", "--no-config", "-c", FISH, str(HEADWATER), "quarantine", "sh"],
        env={**os.environ, "HEADWATER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.startswith("show\tShow entries whole"), ended.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_gets_an_argument_list_from_the_word_that_was_typed(tmp_path: Path) -> None:
    script = f"""
    compdef() {{ print -r -- "$@" }}
    _arguments() {{ print -r -- "$@" }}
    source <({HEADWATER} completion zsh)
    words=({HEADWATER} up --only kaf); CURRENT=4
    _headwater_completion
    """
    ended = subprocess.run(
        ["zsh", "-f", "-c", script],
        env={**os.environ, "HEADWATER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    registered, offered = ended.stdout.splitlines()[:2]
    assert registered == "_headwater_completion headwater", ended.stderr
    assert '"kafka"' in offered


def test_tables_of_a_source_that_is_away_are_none_and_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    monkeypatch.setattr("app.launcher.state.Home.is_supervised", lambda _: True)
    assert completion.tables("") == []
    assert capsys.readouterr() == ("", "")
