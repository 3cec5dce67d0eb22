"""The project's own rules: who imports whom, what stands where, what may not be written down."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
import tomli
from jgo.constants import MAVEN_CENTRAL_URL

ROOT = Path(__file__).resolve().parents[2]
# Folders that share a name with an installed package: a package here would hide it.
NEVER_PACKAGES = ("trino", "superset", "debezium", "connect", "grafana")
APART = ("store", "source", "lake", "live", "metrics", "launcher", "dashboards", "intake")
FOLDERS = (
    "debezium",
    "connect",
    "spark_streaming",
    "trino",
    "grafana",
    "superset",
    "app",
    "tests",
)
LINES_MAX = 420


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=30,
    )
    names = listed.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_streaming_job_imports_nothing_of_the_app() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in python_files("spark_streaming")
        for name in imports(path)
        if name.split(".")[0] in ("app", "tests")
    ]
    assert found == []


@pytest.mark.parametrize("package", APART)
def test_the_packages_of_the_app_do_not_import_each_other(package: str) -> None:
    others = {f"app.{name}" for name in APART if name != package}
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in python_files(f"app/{package}")
        for name in imports(path)
        if ".".join(name.split(".")[:2]) in others
    ]
    assert found == []


@pytest.mark.parametrize("folder", NEVER_PACKAGES)
def test_no_folder_hides_an_installed_package(folder: str) -> None:
    assert list((ROOT / folder).rglob("__init__.py")) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_says_what_it_is_for(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text()
    assert text.startswith("# ")


def test_every_service_is_explained_in_its_folders_readme() -> None:
    missing = [
        f"{path.parent.name}: {service}"
        for path in ROOT.glob("*/service.toml")
        for service in tomli.loads(path.read_text())["services"]
        if f"`{service}`" not in (path.parent / "README.md").read_text()
    ]
    assert missing == []


def test_no_file_names_a_package_registry() -> None:
    host = urlparse(MAVEN_CENTRAL_URL).hostname
    assert host
    found = [
        str(path.relative_to(ROOT)) for path in tracked() if host.encode() in path.read_bytes()
    ]
    assert found == []


@pytest.mark.parametrize(
    "path", ["requirements/runtime.lock", "requirements/dev.lock", "superset/requirements.lock"]
)
def test_the_python_lock_files_hold_hashes_and_no_address(path: str) -> None:
    text = (ROOT / path).read_text()
    assert "://" not in text
    pinned = [line for line in text.splitlines() if "==" in line and line[:1].isalnum()]
    assert len(pinned) > 20
    assert text.count("--hash=sha256:") >= len(pinned)


def test_no_python_file_grows_beyond_what_can_be_read_at_once() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for path in tracked()
        if path.suffix == ".py" and (count := len(path.read_text().splitlines())) > LINES_MAX
    ]
    assert found == []
