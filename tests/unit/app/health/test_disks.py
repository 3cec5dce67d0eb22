"""Full and almost full disks are found by bytes and by files, and reported for every folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.artefacts.lazy import LazyArtefacts
from app.cli.status.problems import CHECKS, find_problems
from app.environment.settings import ROOT, load
from app.health.disk import FULL, LOW, OK, Disk, disk_problems, disks
from app.launcher.host import RealHost
from app.metrics.board import Board
from app.metrics.collectors.processes import ProcessCollector
from app.services.service import Service
from tests.support.small_disk import small_disk

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("disk", "state"),
    [
        (Disk((".",), 40 * GB, 100 * GB), OK),
        (Disk((".",), 11 * GB, 4_000 * GB), OK),
        (Disk((".",), 9 * GB, 4_000 * GB), LOW),
        (Disk((".",), 7 * GB, 100 * GB), LOW),
        (Disk((".",), GB // 10, 100 * GB), FULL),
        (Disk((".",), 0, 100 * GB), FULL),
        (Disk((".",), 40 * GB, 100 * GB, 3, 100), LOW),
        (Disk((".",), 40 * GB, 100 * GB, 0, 100), FULL),
        (Disk((".",), 40 * GB, 100 * GB, 0, 0), OK),  # no fixed number of files (btrfs)
    ],
)
def test_a_disk_is_judged_by_its_bytes_and_its_files(disk: Disk, state: str) -> None:
    assert disk.state == state


def test_each_disk_is_measured_once_and_named_by_the_folders_on_it(tmp_path: Path) -> None:
    for folder in ("run/kafka", "data/kafka", "data/s3"):
        (tmp_path / folder).mkdir(parents=True)
    with small_disk(tmp_path / "data" / "s3", 1 << 20) as small:
        first, second = disks(tmp_path)
        assert first.folders == (".", "run", "run/kafka", "data", "data/kafka")
        assert (second.folders, second.size_bytes) == (("data/s3",), 1 << 20)
        assert disk_problems([second]) == []
        small.fill()
        [found] = disk_problems(disks(tmp_path)[1:])
        assert (found.part, found.state) == ("disk of data/s3", "full")
        assert "0.00 GB of 0.00 GB are free; it holds data/s3" in found.cause
        looks = [look for look in CHECKS if look.part == "disk"]
        assert found in find_problems(load(tmp_path), ["kafka"], looks)
        assert find_problems(load(tmp_path), [], looks) == []  # no service is wanted
        board = Board()
        ProcessCollector(tmp_path, board).collect()
        assert state_of(board, "data/s3") == 2
        small.free()
        small.fill(leave_bytes=(1 << 20) // 20)
        assert disks(tmp_path)[1].state == LOW


def test_a_folder_that_is_a_link_counts_where_it_leads(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with small_disk(elsewhere, 1 << 20):
        (tmp_path / "home" / "data").mkdir(parents=True)
        (tmp_path / "home" / "data" / "postgres").symlink_to(elsewhere)
        assert [disk.folders for disk in disks(tmp_path / "home")][1] == ("data/postgres",)


def test_a_service_that_ends_beside_a_full_disk_is_told_to_have_room(tmp_path: Path) -> None:
    host = RealHost(load(tmp_path), LazyArtefacts(ROOT), root=ROOT)
    service = Service.model_construct(name="kafka", folder=ROOT, description="", command=[])
    try:
        with small_disk(tmp_path / "data" / "kafka", 1 << 20) as small:
            assert host.hint(service, "Aborted") == "read the log: `./headwater logs kafka`"
            small.fill()
            assert host.hint(service, "Aborted").startswith(
                "free some disk space, then it continues"
            )
            assert "data/kafka" in host.hint(service, "Aborted")
    finally:
        host.close()


def state_of(board: Board, folder: str) -> float:
    [family] = [one for one in board.collect() if one.name == "headwater_disk_state"]
    return next(s.value for s in family.samples if s.labels == {"folder": folder})
