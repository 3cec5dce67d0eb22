"""The AOT cache that a JVM writes at its end, and the options with which later starts use it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.artefacts.compile import java, share_classes
from app.environment.settings import ROOT
from app.launcher import aot
from app.launcher.aot import AotCaches, records, whole
from app.services.service import Service, load_services

COMPILER = list(aot.LATE_SECOND_COMPILER)


def service(name: str = "kafka", **given: Any) -> Service:
    command = ["${java}", "@${aot}", "-Dport=${port.kafka}", "-cp", "${classpath.kafka}", "Main"]
    body = {"description": name, "command": command, "folder": Path("/x"), "name": name}
    return Service.model_validate({**body, **given})


class World:
    """Starts and ends of services that have one cache folder."""

    def __init__(self, cache: Path, *, recording: bool = True) -> None:
        self.cache = cache
        self.caches = AotCaches(cache)
        self.caches.recording = recording
        self.jars = "kafka-1/a.jar"
        self.options = cache / "aot.options"

    def begin(self, one: Service) -> list[str]:
        """The options of a start."""
        values = {"java": "/jre/bin/java", "python": "python", "classpath.kafka": self.jars}
        self.caches.begin(one, values.__getitem__, self.options)
        return [line.strip('"') for line in self.options.read_text().splitlines()]

    def writes(self, options: list[str], text: str = "learned") -> None:
        """Act like a JVM at its end."""
        part = Path(options[0].partition("=")[2])
        part.write_text(text)
        part.with_name(f"{part.name}.config").write_text("what it came from")

    def end(
        self, one: Service, code: int | None = 143, *, asked: bool = True, ready: bool = True
    ) -> None:
        self.caches.ended(one, code, asked=asked, ready=ready)

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.cache.glob("aot/*.aot"))

    def parts(self) -> list[str]:
        return [path.name for path in self.cache.glob("aot/.*")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def recorded(world: World, one: Service) -> None:
    world.writes(world.begin(one))
    world.end(one)


def test_first_start_records_and_the_next_one_uses_what_it_wrote(world: World) -> None:
    kafka = service()
    first = world.begin(kafka)
    assert first[0].startswith("-XX:AOTCacheOutput=") and world.caches.grace_s(kafka) > 0
    assert world.caches.writing
    world.writes(first)
    world.end(kafka)
    [name] = world.kept()
    assert world.parts() == []
    assert world.begin(kafka)[0] == f"-XX:AOTCache={world.cache}/aot/{name}"
    assert world.caches.grace_s(kafka) == 0 and not world.caches.writing


@pytest.mark.parametrize(
    ("code", "asked", "ready"),
    [
        (-9, True, True),
        (None, True, True),
        (1, False, True),
        (-9, False, True),
        (143, True, False),
    ],
    ids=["killed", "late", "failed", "killed_by_another", "stopped_before_it_was_ready"],
)
def test_what_an_end_left_that_was_not_clean_is_not_kept(
    world: World, code: int | None, asked: bool, ready: bool
) -> None:
    kafka = service()
    world.writes(world.begin(kafka), "half")
    world.end(kafka, code, asked=asked, ready=ready)
    assert (world.kept(), world.parts()) == ([], [])


def test_part_of_a_stack_records_nothing_and_uses_what_is_there(tmp_path: Path) -> None:
    kafka = service()
    part = World(tmp_path, recording=False)
    assert part.begin(kafka) == COMPILER and part.caches.grace_s(kafka) == 0
    recorded(World(tmp_path), kafka)
    assert part.begin(kafka)[0].startswith("-XX:AOTCache=")


def test_other_jars_or_options_are_another_cache(world: World) -> None:
    recorded(world, service())
    world.jars = "kafka-2/a.jar"
    assert world.begin(service())[0].startswith("-XX:AOTCacheOutput=")
    world.jars = "kafka-1/a.jar"
    assert world.begin(service())[0].startswith("-XX:AOTCache=")
    changed = service(command=["${java}", "@${aot}", "-Xmx1g", "-cp", "${classpath.kafka}", "Main"])
    assert world.begin(changed)[0].startswith("-XX:AOTCacheOutput=")


def test_caches_that_are_not_used_any_more_are_removed(world: World) -> None:
    for number in range(4):
        world.jars = f"kafka-{number}/a.jar"
        recorded(world, service())
        for age, path in enumerate(sorted(world.cache.glob("aot/*.aot"), key=os.path.getmtime)):
            os.utime(path, (age, age))
    assert len(world.kept()) == aot.KEPT
    assert world.begin(service())[0].startswith("-XX:AOTCache=")  # the newest cache exists


@pytest.mark.parametrize(("code", "ready"), [(1, False), (-11, True), (-6, True), (None, False)])
def test_cache_with_which_a_jvm_did_not_start_or_crashed_is_dropped(
    world: World, code: int | None, ready: bool
) -> None:
    kafka = service()
    recorded(world, kafka)
    world.begin(kafka)
    world.caches.ended(kafka, code, asked=False, ready=ready)
    assert world.kept() == []


@pytest.mark.parametrize("code", [1, -9])
def test_cache_stays_when_a_service_that_was_ready_ends_otherwise(world: World, code: int) -> None:
    kafka = service()
    recorded(world, kafka)
    world.begin(kafka)
    world.caches.ended(kafka, code, asked=False, ready=True)
    assert len(world.kept()) == 1


def test_nothing_is_recorded_where_the_disk_is_nearly_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aot, "DISK_FREE_MIN_BYTES", 1 << 62)
    assert world.begin(service()) == COMPILER


def test_caches_can_be_done_without(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(world, service())
    monkeypatch.setenv(aot.SWITCH, "off")
    assert world.begin(service()) == COMPILER


def test_a_users_own_options_are_given_to_each_jvm_with_a_cache_of_their_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = service()
    recorded(world, kafka)
    monkeypatch.setenv("HEADWATER_JVM_OPTIONS", "-XX:TieredStopAtLevel=1 '-Dword=two words'")
    given = world.begin(kafka)
    assert given[0].startswith("-XX:AOTCacheOutput=")
    own = ["-XX:TieredStopAtLevel=1", "-Dword=two words"]
    assert given[-6:] == [*COMPILER, *own]  # a JVM obeys the last value of an option
    assert world.begin(service("capture", command=["python"])) == []


def test_service_without_a_jvm_gets_an_empty_file_of_options(world: World) -> None:
    assert world.begin(service("app", command=["${python}", "-m", "app.page"])) == []


def test_stack_records_only_when_all_that_can_record_runs() -> None:
    described = load_services(ROOT).values()
    names = [one.name for one in described if one.default and records(one)]
    assert sorted(names) == [
        "connect",
        "kafka",
        "metastore",
        "s3",
        "silver",
        "trino",
        "trino-worker",
    ]
    assert whole(described, [*names, "app"])
    assert not whole(described, names[1:])


def test_jre_gets_an_archive_of_its_own_classes_once(tmp_path: Path) -> None:
    jre = tmp_path / "jre"
    subprocess.run(["cp", "-r", str(java().parent.parent), str(jre)], check=True)
    archive = jre / "lib" / "server" / "classes.jsa"
    archive.unlink(missing_ok=True)
    share_classes(jre / "bin" / "java")
    made = archive.stat().st_mtime_ns
    run = [str(jre / "bin" / "java"), "-Xshare:on", "-version"]
    assert subprocess.run(run, capture_output=True).returncode == 0
    share_classes(jre / "bin" / "java")
    assert archive.stat().st_mtime_ns == made
    assert [path.name for path in archive.parent.iterdir() if "tmp" in path.name] == []


def test_jre_that_cannot_be_written_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "lib" / "server").mkdir(parents=True)
    share_classes(tmp_path / "bin" / "java")  # there is no JVM: no archive, and no error
    assert list((tmp_path / "lib" / "server").iterdir()) == []
