"""`clean` removes unused files, prints their size, and leaves files that clones and processes use."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.artefacts import cache_claims as claims
from app.artefacts.cache_claims import claim, claimed, cleaning, fetching
from app.artefacts.cache_cleaning import find_waste, freed_bytes, in_use, remove, waste_of_home
from app.artefacts.dist import Artefacts
from app.environment.settings import ROOT
from app.errors import HeadwaterError
from tests.support.command import headwater

DAY_S = 86_400.0
MB = 1 << 20


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of two versions: `kafka-new` is linked to its download, like other groups."""
    cache = tmp_path / "the cache"
    for name in ("artefacts/aaaa", "artefacts/bbbb", "dist/kafka-new", "dist/kafka-old", "aot"):
        (cache / name).mkdir(parents=True)
    for digest, group in (("aaaa", "kafka-new"), ("bbbb", "kafka-old")):
        jar = cache / "artefacts" / digest / "kafka.jar"
        jar.write_bytes(os.urandom(MB))
        os.link(jar, cache / "dist" / group / "kafka.jar")
    return cache


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "artefacts.lock").write_text("")
    return clone


NEW = {"artefacts/aaaa", "dist/kafka-new"}
OLD = {"artefacts/bbbb", "dist/kafka-old"}


def names(cache: Path, needed: set[str], **options: float) -> set[str]:
    return {str(one.path.relative_to(cache)) for one in find_waste(cache, needed, **options)}


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_another_version_left_is_waste_and_what_this_one_needs_stays(cache: Path) -> None:
    assert names(cache, NEW) == OLD
    remove(cache, find_waste(cache, NEW))
    assert not (cache / "dist" / "kafka-old").exists()
    assert (cache / "dist" / "kafka-new" / "kafka.jar").stat().st_size == MB
    assert list((cache / "scratch").iterdir()) == []
    assert find_waste(cache, NEW) == []


def test_a_file_counts_once_and_only_where_its_last_name_goes(cache: Path) -> None:
    both = freed_bytes(find_waste(cache, NEW))
    assert MB <= sum(both.values()) < 1.1 * MB
    only_download = freed_bytes(find_waste(cache, NEW | {"dist/kafka-old"}))
    assert sum(only_download.values()) < 0.1 * MB


def test_what_is_said_to_be_freed_is_what_the_disk_gets_back(cache: Path) -> None:
    def on_disk() -> int:
        seen = {path.lstat().st_ino: path.lstat().st_blocks * 512 for path in cache.rglob("*")}
        return sum(seen.values())

    waste = find_waste(cache, NEW)
    said, before = sum(freed_bytes(waste).values()), on_disk()
    remove(cache, waste)
    # The removal makes one empty folder, `scratch`.
    assert abs(before - on_disk() - said) <= 2 * 4096


def test_what_another_clone_claims_stays_until_the_clone_is_gone(cache: Path, clone: Path) -> None:
    other = clone.with_name("other clone")
    other.mkdir()
    (other / "artefacts.lock").write_text("")
    claim(cache, clone, NEW)
    claim(cache, other, OLD)
    assert names(cache, claimed(cache, clone)) == set()
    (other / "artefacts.lock").unlink()
    assert names(cache, claimed(cache, clone)) == OLD
    assert len(list((cache / "clones").iterdir())) == 1


def test_a_clone_claims_the_environment_that_it_runs_in_also_by_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(Path(sys.prefix).parent.parent)
    needs = Artefacts(ROOT, link).needs()
    assert f"venv/{Path(sys.prefix).name}" in needs
    assert any(name.startswith("dist/trino-") for name in needs)


def test_a_clones_newer_claim_replaces_its_older_one(cache: Path, clone: Path) -> None:
    claim(cache, clone, OLD)
    claim(cache, clone, NEW)
    assert claimed(cache, clone) == NEW


def test_a_clones_claim_under_another_python_ends_after_a_month(
    cache: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setattr(sys, "version_info", (3, 9, 0))
        claim(cache, clone, OLD)
    claim(cache, clone, NEW)
    assert claimed(cache, clone) == OLD | NEW
    assert claimed(cache, clone, now=time.time() + 31 * DAY_S) == NEW


def test_a_claim_that_cannot_be_read_removes_nothing(cache: Path, clone: Path) -> None:
    claim(cache, clone, NEW)
    (cache / "clones" / "x.json").write_text("{")
    with pytest.raises(HeadwaterError, match="what a clone needs") as caught:
        claimed(cache, clone)
    assert "x.json" in str(caught.value)


@pytest.fixture
def running(cache: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a version without claims, whose class path names the old folder."""
    code = "import sys; sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"
    words = [sys.executable, "-c", code, "-cp", f"/x.jar:{cache}/dist/kafka-old/kafka.jar"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read(1) == b"."
        yield process
        process.kill()


def test_what_a_running_process_names_stays(cache: Path, running: subprocess.Popen[bytes]) -> None:
    assert names(cache, NEW) == {"artefacts/bbbb"}
    running.kill()
    running.wait()
    assert names(cache, NEW) == OLD


def test_the_environment_of_a_running_process_stays(tmp_path: Path) -> None:
    venv = Path(sys.prefix)  # of this process
    assert f"venv/{venv.name}" in in_use(venv.parent.parent)


def test_an_environment_that_is_being_made_or_was_just_used_stays(cache: Path) -> None:
    for name, seconds in (("py-old", 2 * DAY_S), ("py-used", 2 * DAY_S), ("py-new", 0)):
        (cache / "venv" / name).mkdir(parents=True)
        age(cache / "venv" / name, seconds)
    (cache / "venv" / "py-used" / ".complete-runtime").touch()
    age(cache / "venv" / "py-used", 2 * DAY_S)
    assert names(cache, NEW | OLD) == {"venv/py-old"}


def test_start_up_caches_and_scratch_are_waste_when_nobody_has_used_them_for_long(
    cache: Path,
) -> None:
    (cache / "scratch").mkdir()
    for folder, days in (("aot", 29), ("aot", 31), ("scratch", 0), ("scratch", 2)):
        path = cache / folder / f"of-{days}-days"
        path.write_text("x")
        age(path, days * DAY_S)
    assert names(cache, NEW | OLD) == {"aot/of-31-days", "scratch/of-2-days"}


def test_a_stopped_stacks_temporary_files_and_old_copies_are_waste(tmp_path: Path) -> None:
    home, shelter = tmp_path / "home", tmp_path / "shelter"
    (home / "run" / "silver" / "tmp" / "x").mkdir(parents=True)
    (home / "data" / "kafka").mkdir(parents=True)
    for name in ("postgres-old", "postgres-new"):
        (shelter / "dist" / name).mkdir(parents=True)
    found = waste_of_home(home, shelter, {"dist/postgres-new"})
    assert {one.path for one in found} == {
        home / "run" / "silver" / "tmp" / "x",
        shelter / "dist" / "postgres-old",
    }
    remove(tmp_path / "cache", found)
    assert (home / "data" / "kafka").is_dir() and (shelter / "dist" / "postgres-new").is_dir()


def test_clean_waits_for_who_fetches_and_gives_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "WAIT_S", 0.0)
    with fetching(cache):
        with fetching(cache):  # two clones fetch side by side
            pass
        with pytest.raises(HeadwaterError, match="is fetching"), cleaning(cache):
            pass
    with cleaning(cache), open(cache / ".clean.lock") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


def clean(cache: Path, home: Path, *options: str) -> tuple[list[dict[str, object]], str]:
    ended = headwater("clean", "--format", "json", *options, home=home, HEADWATER_CACHE=str(cache))
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout), ended.stderr


def test_the_command_says_what_it_would_remove_and_then_removes_it(
    cache: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    before = sorted(cache.glob("[ad]*/*"))
    said, told = clean(cache, home, "--dry-run")
    assert {str(row["what"]): row["entries"] for row in said} == {"downloads": 2, "programs": 2}
    assert "0.00 GB would be removed" in told and str(cache) in told
    assert sorted(cache.glob("[ad]*/*")) == before
    assert clean(cache, home)[0] == said
    assert sorted(cache.glob("[ad]*/*")) == []
    assert clean(cache, home) == ([], "nothing to remove\n")
