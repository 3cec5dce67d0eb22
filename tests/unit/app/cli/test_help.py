"""Help, the version and errors about misspelt verbs are complete, correct, and need no download."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli.first import NEEDS_PACKAGES, find
from app.cli.help import text_of
from app.cli.main import app
from app.cli.outline import Command, load
from app.environment.settings import ROOT
from tests.support.command import headwater

SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
FIRST = ROOT / "app" / "cli" / "first.py"
AT_ONCE_S = 20  # a limit for a busy machine: pip alone takes longer


def verbs(command: Command, path: tuple[str, ...] = ("headwater",)) -> Iterator[Any]:
    """(path, verb) of each verb below a command."""
    for name, child in command.children.items():
        words = (*path, name)
        yield from verbs(child, words) if child.children else [(words, child)]


OUTLINE = load()
VERBS = {" ".join(path): (path, verb) for path, verb in verbs(OUTLINE)}


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment without packages, whose proxy does not exist."""
    dead = "http://127.0.0.1:9"
    return {
        "PATH": f"{Path(SYSTEM_PYTHON).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path / "user"),
        "HEADWATER_CACHE": str(tmp_path / "cache"),
        "HEADWATER_PYTHON": SYSTEM_PYTHON,
        **dict.fromkeys(("http_proxy", "https_proxy", "PIP_PROXY", "PIP_INDEX_URL"), dead),
    }


def ask(bare: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "headwater", *words],
        env=bare,
        capture_output=True,
        text=True,
        timeout=AT_ONCE_S,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("words", "code", "printed"),
    [
        (["--version"], 0, "headwater 0."),
        (["--help"], 0, "Commands:"),
        (["verify", "--help"], 0, "Compare source and silver row by row"),
        (["contract", "plan", "-h"], 0, "--ddl TEXT"),
        (["--docker", "up", "--help"], 0, "Usage: headwater --docker up"),
        (["test", "--help"], 0, "Run tests"),
        (["completion", "zsh"], 0, "#compdef headwater"),
        (["stauts"], 2, "did you mean `status`?"),
        (["quarantine", "lst"], 2, "did you mean `quarantine list`?"),
        ([], 2, "Usage: headwater"),
    ],
)
def test_help_needs_no_packages_and_no_network_and_writes_nothing(
    tmp_path: Path, bare: dict[str, str], words: list[str], code: int, printed: str
) -> None:
    ended = ask(bare, *words)
    assert ended.returncode == code
    assert printed in (ended.stderr if code else ended.stdout)
    assert (ended.stdout if code else ended.stderr) == ""
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_verb_that_is_to_run_is_left_to_the_environment(bare: dict[str, str]) -> None:
    for words in (["status"], ["sql", "--file", "--help"], ["sql", "--", "--help"]):
        ended = subprocess.run([SYSTEM_PYTHON, "-I", "-S", FIRST, *words], timeout=AT_ONCE_S)
        assert ended.returncode == NEEDS_PACKAGES


def test_tab_downloads_nothing(tmp_path: Path, bare: dict[str, str]) -> None:
    ended = ask({**bare, "_HEADWATER_COMPLETE": "complete_bash"})
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_with_the_environment_help_is_the_same_text(bare: dict[str, str], tmp_path: Path) -> None:
    ended = headwater("up", "--help", home=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, ask(bare, "up", "--help").stdout)


def test_the_outline_has_the_commands_and_options_that_run() -> None:
    def shape(command: Any) -> Any:
        if hasattr(command, "commands"):
            return {name: shape(child) for name, child in command.commands.items()}
        return sorted(word for one in command.params for word in one.opts if word[:1] == "-")

    def outlined(command: Command) -> Any:
        if command.children:
            shown = {n: outlined(c) for n, c in command.children.items() if n != "--docker"}
            return shown
        words = [word for one in command.options for word in one.declared.names]
        return sorted(word.partition("/")[0] for word in words)

    def without_help(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: without_help(one) for name, one in tree.items()}
        return [word for word in tree if word not in ("-h", "--help")]

    assert outlined(OUTLINE) == without_help(shape(typer.main.get_command(app)))


@pytest.mark.parametrize("name", VERBS)
def test_a_verbs_help_is_whole_sentences_with_an_example_and_exit_codes(name: str) -> None:
    path, verb = VERBS[name]
    text = text_of(verb, path)
    said = [p for p in verb.help.split("\n\n") if not re.match(r"(Examples|Exit codes):\n", p)]
    said += [one.declared.help for one in verb.parameters]
    assert [one for one in said if not re.fullmatch(r"(?s)[A-Z`].*[.!?]", one)] == []
    assert "\nExit codes:\n  0  " in text
    examples = re.search(r"(?m)^Examples:\n((?:  .*\n?)+)", text)
    assert examples, "it has no example"
    headings = re.findall(r"(?m)^(Arguments|Options|Examples|Exit codes):$", text)
    order = ["Arguments", "Options", "Examples", "Exit codes"]
    assert headings == (order if verb.arguments else order[1:])
    command = " ".join(path)
    own = [line for line in examples[1].splitlines() if f"./{command}" in line]
    assert own == examples[1].splitlines()


@pytest.mark.parametrize("name", VERBS)
def test_the_options_of_an_example_are_the_verbs_own(name: str) -> None:
    path, verb = VERBS[name]
    known = {part for one in verb.options for n in one.declared.names for part in n.split("/")}
    for line in verb.help.splitlines():
        if line.startswith(f"  ./{' '.join(path)}"):
            own = re.split(r" [|>#]", line)[0]  # without the arguments of another program
            found = find(verb, shlex.split(own)[len(path) :])
            assert [word for word in found.options if word.split("=")[0] not in known] == []


def test_a_narrow_terminal_gets_lines_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for name, (path, verb) in VERBS.items():
        text = text_of(verb, path).split("Examples:")[0]
        # A single word may be longer than a line, such as an option's values.
        long = [line for line in text.splitlines()[1:] if len(line) > 60 and " " in line.strip()]
        assert [line for line in long if "[" not in line] == [], name
