"""Tests are named as sentences, in the glossary's words."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.support.repository import ROOT, tracked

WORDS_MIN = 3
# Words that the project does not use → the word that it uses instead.
PRIVATE = {
    "anew": "again",
    "live": "the part of the page",
    "mend": "repair",
    "mended": "repaired",
    "mends": "repairs",
    "parted": "split",
}


def names_of_tests() -> Iterator[tuple[str, str]]:
    """File and function of every test."""
    for path in tracked():
        if path.is_relative_to(ROOT / "tests") and path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    yield path.name, node.name


def test_every_test_is_named_as_a_sentence() -> None:
    found = [name for _, name in names_of_tests() if len(name.split("_")) <= WORDS_MIN]
    assert found == []


def test_no_test_is_named_in_words_of_our_own() -> None:
    found = [
        f"{file}: {name}: say {PRIVATE[word]!r} for {word!r}"
        for file, name in names_of_tests()
        for word in name.split("_") + file.removesuffix(".py").split("_")
        if word in PRIVATE
    ]
    assert sorted(set(found)) == []
