"""Names in documents and strings exist: paths, modules and their contents."""

from __future__ import annotations

import ast
import pkgutil
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.links import code
from tests.support.repository import ROOT, tracked

PATH = re.compile(
    r"[\w.-]*[a-z][\w.-]*(/[\w.-]+)+/?|[\w-]+\.(py|toml|sql|java|js|html|css|md|json)"
)
# Kubernetes' labels also begin with `app`.
DOTTED = re.compile(
    r"(?<![\w./-])(?:app(?!\.kubernetes\.io)|spark_streaming|tests)(?:\.[A-Za-z_]\w*)+"
)
# The files without an extension are the Makefile and the command.
COMMANDS = (".md", ".toml", ".java", ".js", ".sh", "")
# Names in documents that are not in the repository.
ELSEWHERE = re.compile(
    r"(data|run|verify|contracts|jobs|aot|\.stack)(/.*)?"  # folders of a home
    r"|(settings\.toml|(state|secrets|service_secrets|version|wanted|restored|manifest)\.json|supervisor\.lock)"  # its files
    r"|(ops|raw|_headwater)/.*"  # tables and markers of the lake
    r"|build/site.*"  # made by `make docs`
    r"|kafka-transactions\.sh|application/json"  # Kafka's own, a media type
    r"|roles/storage\.\w+"  # Google's
)


@pytest.mark.parametrize(
    "document",
    [path for path in tracked() if path.suffix == ".md"],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    words = (
        word.strip("(),;:").removeprefix("./") for text in code(document) for word in text.split()
    )
    paths = {word for word in words if PATH.fullmatch(word) and not ELSEWHERE.fullmatch(word)}
    assert sorted(path for path in paths if not is_there(path, document.parent)) == []


def test_every_path_that_a_comment_or_a_docstring_names_exists() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in tracked()
        if path.suffix in (".py", ".toml", ".java", ".js")
        for name in re.findall(
            r"`([a-z_]+(?:/[a-z_]+)+\.(?:py|md|toml|java|js))`", path.read_text()
        )
        if not ELSEWHERE.fullmatch(name) and not is_there(name, path.parent)
    ]
    assert found == []


def is_there(name: str, folder: Path) -> bool:
    """Whether a file, folder or module has this name: in the root, this folder or tests.

    A bare file name may be that of any file.
    """
    if "/" not in name:
        return any(path.name == name for path in tracked())
    places = [posixpath.normpath(base / name) for base in (ROOT, folder, ROOT / "tests")]
    return any(Path(place + end).exists() for place in places for end in ("", ".py"))


def test_the_map_of_contributing_has_at_least_twenty_changes() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) >= 20


def test_every_dotted_name_of_our_packages_leads_to_code() -> None:
    missing = []
    for path in tracked():
        for name in sorted(dotted_names(path)):
            try:
                pkgutil.resolve_name(name)
            except (ImportError, AttributeError):
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert missing == []


def dotted_names(path: Path) -> set[str]:
    """The dotted names in a Python file's strings, or in another file's whole text."""
    return {name for text in texts(path) for name in DOTTED.findall(text)}


def texts(path: Path) -> Iterator[str]:
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    elif path.suffix in COMMANDS or path.parent.name == ".ci":
        yield path.read_text()
