"""The project's own rules about imports, the places of files, and forbidden content."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import urlparse

import pytest
import tomli
from jgo.constants import MAVEN_CENTRAL_URL
from pydantic_settings import BaseSettings

from app.docs.pages import PAGES, stale
from app.environment.profile import Profile
from app.environment.toml_files import description_files
from app.metrics.monitoring.write_files import files as monitoring_files
from spark_streaming.job_settings import JobKeys, SilverSettings
from spark_streaming.streams.stream_settings import StreamSettings
from tests.support.links import broken_links
from tests.support.repository import ROOT, tracked

# Folders with the name of an installed package, which a package here would hide.
NEVER_PACKAGES = ("trino", "superset", "app/jobs/dagster", "debezium", "connect", "grafana")
FOLDERS = (
    "debezium",
    "connect",
    "spark_streaming",
    "trino",
    "grafana",
    "superset",
    "app/jobs/dagster",
    "app",
    "tests",
)
LINES_MAX = 400
TEST_LINES_MAX = 420
FILES_MAX = 15  # of code in one folder
METHODS_MAX = 15  # public ones of a class, including properties
WRITTEN_KINDS = (".json", ".lock", ".md", ".sql", ".svg", ".toml", ".yaml", ".yml")
# The site's addresses follow from the documents' paths; a lock is beside its input.
GENERATED_ELSEWHERE = (
    *(f"docs/{name}" for name in PAGES if name.endswith(".md")),
    "docs/types.md",
    "artefacts.lock",
    "tests/bench/peers/artefacts.lock",
)
# A verb and a page of the reference may have the name of their subject.
SHARED_NAMES = ("app/cli/verbs", "app/docs")


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


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
        for path in description_files(ROOT)
        for service in tomli.loads(path.read_text())["services"]
        if f"`{service}`" not in (path.parent / "README.md").read_text()
    ]
    assert missing == []


def test_the_reference_is_what_the_code_says() -> None:
    assert sorted(stale()) == [], "docs/ is stale; run: make reference"


def test_generated_files_lie_in_folders_of_that_name() -> None:
    """By their headers; JSON has none, and the next rule checks it."""
    header = re.compile(r"^(#|//|--|<!--) (Written|Made|Generated) by ", re.M)
    found = [
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if path.suffix in WRITTEN_KINDS and header.search(path.read_text()[:300])
    ]
    elsewhere = [name for name in found if "/generated/" not in name]
    assert set(elsewhere) - set(GENERATED_ELSEWHERE) == set()
    assert len(found) > len(elsewhere) == len(GENERATED_ELSEWHERE)


def test_below_generated_is_what_the_writer_writes_and_nothing_else() -> None:
    """The writers' own tests check the content of each file."""
    there = {
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if "generated" in path.relative_to(ROOT).parts
    }
    made = {f"grafana/{name}" for name in monitoring_files()}
    assert there == {name for name in made if "/generated/" in name} != set()


def test_every_link_within_the_repository_leads_somewhere() -> None:
    assert broken_links(ROOT, [path for path in tracked() if path.suffix == ".md"]) == []


def test_no_file_names_a_package_registry() -> None:
    host = urlparse(MAVEN_CENTRAL_URL).hostname
    assert host
    found = [
        str(path.relative_to(ROOT)) for path in tracked() if host.encode() in path.read_bytes()
    ]
    assert found == []


@pytest.mark.parametrize(
    "path",
    [
        "requirements/runtime.lock",
        "requirements/dev.lock",
        "requirements/docs.lock",
        "superset/requirements.lock",
        "app/jobs/dagster/requirements.lock",
        "app/models/tracking/requirements.lock",
        "app/notebooks/requirements.lock",
        "tests/bench/peers/requirements.lock",
    ],
)
def test_the_python_lock_files_hold_hashes_and_no_address(path: str) -> None:
    text = (ROOT / path).read_text()
    assert "://" not in text
    pinned = [line for line in text.splitlines() if "==" in line and line[:1].isalnum()]
    assert len(pinned) > 20
    assert text.count("--hash=sha256:") >= len(pinned)


def test_no_python_file_grows_beyond_what_can_be_read_at_once() -> None:
    found = []
    for path in tracked():
        in_tests = path.is_relative_to(ROOT / "tests")
        count = len(path.read_text().splitlines()) if path.suffix == ".py" else 0
        if count > (TEST_LINES_MAX if in_tests else LINES_MAX):
            found.append(f"{path.relative_to(ROOT)}: {count} lines")
    assert found == []


def product_files() -> list[Path]:
    files = [*python_files("app"), *python_files("spark_streaming")]
    return [path for path in files if not path.name.startswith("__")]


def test_no_folder_holds_more_files_than_can_be_seen_at_once() -> None:
    counts = Counter(path.parent.relative_to(ROOT) for path in product_files())
    assert [f"{folder}: {n} files" for folder, n in counts.items() if n > FILES_MAX] == []


def test_no_two_files_have_one_name() -> None:
    names: dict[str, list[str]] = defaultdict(list)
    for path in product_files():
        folder = path.parent.relative_to(ROOT).as_posix()
        if not folder.startswith(SHARED_NAMES):
            names[path.name].append(folder)
    assert {name: folders for name, folders in names.items() if len(folders) > 1} == {}


def test_no_class_has_more_public_methods_than_can_be_known() -> None:
    found = []
    for path in product_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                methods = (ast.FunctionDef, ast.AsyncFunctionDef)
                names = [one.name for one in node.body if isinstance(one, methods)]
                count = sum(not name.startswith("_") for name in names)
                if count > METHODS_MAX:
                    found.append(f"{path.relative_to(ROOT)}: {node.name}: {count}")
    assert found == []


@pytest.mark.parametrize("job", [SilverSettings, StreamSettings])
def test_a_setting_of_a_job_that_is_a_key_of_the_profile_is_declared_once(
    job: type[BaseSettings],
) -> None:
    # The stack computes this required one: `capture_dsn`.
    given = {name for name, field in job.model_fields.items() if not field.is_required()}
    assert given & Profile.model_fields.keys() == JobKeys.model_fields.keys()


def test_every_connection_to_a_database_has_limits() -> None:
    """A dead peer must not block the process that waits for it: see `spark_streaming.storage.connections`."""
    lacking = []
    for path in tracked():
        if path.suffix != ".py" or path.relative_to(ROOT).parts[0] not in (
            "app",
            "spark_streaming",
        ):
            continue
        for call in path.read_text().split("psycopg.connect(")[1:]:
            if "_LIMITS" not in call[:300] and "**limits" not in call[:300]:
                lacking.append(str(path.relative_to(ROOT)))
    assert lacking == []
