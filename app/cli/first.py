"""Answers commands that need no package: help, the version, a misspelt verb.

If the environment has not been made yet, `./headwater` runs this file with the system's Python:
nobody downloads a gigabyte to read a page of help. `python -m app` calls `answer` first, so that
both print the same. Standard library only; writes no file.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.cli.help import text_of
from app.cli.outline import DOCKER, HELP_NAMES, Command, load
from app.cli.shells import COMPLETE, SCRIPTS
from app.environment.stamp import version

ROOT = Path(__file__).resolve().parents[2]
DEBUG, VERSION = "--debug", "--version"
WRONG_USAGE = 2
NEEDS_PACKAGES = 100  # `./headwater` goes on with the download


def main() -> int:
    """Answer without packages. Returns: the exit code; NEEDS_PACKAGES if a verb must run."""
    if os.environ.get(COMPLETE):
        return 0  # pressing TAB downloads nothing
    code = answer(sys.argv[1:])
    return NEEDS_PACKAGES if code is None else code


def end_if_answered() -> None:
    """Exit if `answer` handled the command line."""
    if os.environ.get(COMPLETE):
        return
    code = answer(sys.argv[1:])
    if code is not None:
        sys.exit(code)


def answer(words: Sequence[str]) -> int | None:
    """Print help, the version or the error for a misspelt verb, where `words` ask for it.

    Returns: the exit code; None if they name a verb to run.
    """
    words = [word for word in words if word != DEBUG]
    if words[:1] == [VERSION]:
        print(f"headwater {version()}")
        return 0
    if words[:1] == ["completion"] and len(words) == 2 and words[1] in SCRIPTS:
        print(SCRIPTS[words[1]])
        return 0
    everything = load()
    docker = everything.children.pop(DOCKER)
    named = [word for word in words if word != DOCKER]
    verb = next((word for word in named if not word.startswith("-")), None)
    own = DOCKER in words and (verb is None or verb in docker.children)
    found = find(docker if own else everything, named, "headwater --docker" if own else "headwater")
    if any(word in HELP_NAMES for word in found.options):
        print(text_of(found.command, found.path), end="")
        return 0
    if found.wrong is not None:
        print(_no_such(found), file=sys.stderr)
        return WRONG_USAGE
    if found.command.children:  # a verb is missing
        print(text_of(found.command, found.path), end="", file=sys.stderr)
        return WRONG_USAGE
    return None


@dataclass(frozen=True)
class Found:
    """The command that a command line names, with its path and the options before it.

    `wrong` is the word in the place of a verb that is not a verb.
    """

    command: Command
    path: list[str]
    options: list[str]
    wrong: str | None = None


def find(command: Command, words: Sequence[str], name: str = "headwater") -> Found:
    """Follow `words` from `command`; a word that is not an option is a verb if the command has verbs."""
    found = Found(command, [name], [])
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            break
        if word.startswith("-"):
            found.options.append(word)
            if any(one.value and word in one.declared.names for one in found.command.options):
                next(waiting, None)
        elif word in found.command.children:
            found = replace(found, command=found.command.children[word], path=[*found.path, word])
        elif found.command.children:
            return replace(found, options=[*found.options, *waiting], wrong=word)
    return found


def _no_such(found: Found) -> str:
    assert found.wrong is not None
    near = difflib.get_close_matches(found.wrong, found.command.children, n=1, cutoff=0.5)
    groups = found.path[1:]
    meant = f"did you mean `{' '.join([*groups, *near])}`? " if near else ""
    return (
        f"there is no command `{' '.join([*groups, found.wrong])}`\n"
        f"  hint: {meant}All of them: ./{' '.join([*found.path, '--help'])}"
    )


if __name__ == "__main__":
    sys.exit(main())
