"""A release's bill of materials is valid by CycloneDX's schema, and its files are exactly the committed ones."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import tomli
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from app.artefacts.locking.lock import read_lock
from app.deploy.__main__ import main
from app.deploy.release.bill_of_materials import FOR_TESTS, PYTHON_LOCKS, bill
from app.deploy.release.release_files import CHECKSUMS, notes_of, release
from app.environment.settings import ROOT
from app.environment.stamp import version
from app.errors import HeadwaterError

BILL = bill(ROOT)
VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)


def test_the_bill_keeps_to_cyclonedx_own_schema() -> None:
    assert VALIDATOR.validate_str(BILL) is None


def test_a_key_with_a_typo_is_refused() -> None:
    assert VALIDATOR.validate_str(BILL.replace('"purl"', '"pul"', 1)) is not None


def test_the_same_clone_gives_the_same_bill() -> None:
    assert bill(ROOT) == BILL


def test_the_bill_names_every_locked_package_once() -> None:
    components = json.loads(BILL)["components"]
    references = [one["bom-ref"] for one in components]
    assert len(references) == len(set(references))
    named = {
        (one["name"], one["version"]) for one in components if one["purl"].startswith("pkg:pypi")
    }
    for lock in PYTHON_LOCKS:
        lines = (ROOT / lock).read_text().splitlines()
        pinned = [line for line in lines if "==" in line and line[:1].isalnum()]
        for line in pinned:
            name, _, rest = line.partition("==")
            assert (name.partition("[")[0], rest.split()[0].rstrip(";")) in named, line


def test_the_bill_has_every_jar_of_a_stack_with_its_checksum_and_none_of_the_tests() -> None:
    hashes = {
        one["hashes"][0]["content"] for one in json.loads(BILL)["components"] if "hashes" in one
    }
    groups = read_lock(ROOT).groups
    shipped = {
        file.sha256
        for name in groups
        if not FOR_TESTS.fullmatch(name)
        for file in groups[name].files
    }
    assert hashes == shipped
    described = tomli.loads((ROOT / "artefacts.toml").read_text())["groups"]
    for name, group in described.items():
        assert ("for tests" in group["description"]) <= bool(FOR_TESTS.fullmatch(name)), name


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a release: committed, with an entry for its version."""
    root = tmp_path / "clone"
    for name in (*PYTHON_LOCKS, "artefacts.lock", "pyproject.toml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## Unreleased\n\n## {version()} - 2026-11-23\n\n- Something.\n\n## 0.0.1\n- Old.\n"
    )
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *words], cwd=root, check=True, timeout=60)
    return root


def test_a_release_is_the_same_bytes_each_time_and_its_checksums_hold(
    clone: Path, tmp_path: Path
) -> None:
    first, second = (release(clone, tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    lines = (tmp_path / "one" / CHECKSUMS).read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == {path.name for path in first} - {CHECKSUMS}
    for name, expected in sums.items():
        assert hashlib.sha256((tmp_path / "one" / name).read_bytes()).hexdigest() == expected
    with tarfile.open(tmp_path / "one" / f"headwater-{version()}.tar.gz") as archive:
        assert f"headwater-{version()}/CHANGELOG.md" in archive.getnames()
    notes = (tmp_path / "one" / "NOTES.md").read_text()
    assert notes == f"# Headwater {version()}\n\n- Something.\n"


def test_a_clone_with_changes_is_refused(clone: Path, tmp_path: Path) -> None:
    (clone / "new").write_text("")
    with pytest.raises(HeadwaterError, match="not committed"):
        release(clone, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_version_without_an_entry_is_refused() -> None:
    with pytest.raises(HeadwaterError, match=r"no entry for 9\.9\.9"):
        notes_of("# Changelog\n\n## Unreleased\n- New.\n", "9.9.9")


def test_the_bill_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bill"]) == 0
    assert capsys.readouterr().out == BILL


def test_the_workflow_builds_every_image_of_compose_for_both_processors() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    built = jobs["images"]["strategy"]["matrix"]["include"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    wanted = {
        (one["image"], one["build"]["dockerfile"], one["build"].get("target"))
        for one in services
        if "build" in one
    }
    assert {(one["name"], one["file"], one.get("target")) for one in built} == wanted
    [build] = [one for one in jobs["images"]["steps"] if one.get("id") == "build"]
    assert build["with"]["platforms"] == "linux/amd64,linux/arm64"
    assert build["with"]["sbom"] is True


def test_the_workflow_may_do_no_more_than_each_job_asks_for() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    assert workflow["permissions"] == {}
    assert {name: job["permissions"] for name, job in workflow["jobs"].items()} == {
        "files": {"contents": "write", "id-token": "write"},
        "images": {"contents": "read", "id-token": "write"},
    }
