"""A second backup copies only what is new, the first stays whole until then, and one changed byte is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore

from app.backup.backup_run import Result, back_up
from app.backup.buckets import Buckets, Listed
from app.backup.restore_run import checked, fill_buckets
from app.backup.target import Target
from app.environment.restored import RestoredLake, next_prefix, read_restored, write_restored
from app.errors import HeadwaterError
from tests.support.stack import Silence

OBJECTS = 250
PASSPHRASE = "a long one"


class Cut(Buckets):
    """Buckets whose store goes away after some objects were read."""

    left = 0

    def get(self, one: Listed) -> Any:
        if self.left == 0:
            raise OSError("the store is away")
        self.left -= 1
        return super().get(one)


class Vanishing(Buckets):
    """Buckets whose first listings have an object that is removed before it is read."""

    times = 1

    def listing(self) -> list[Listed]:
        found = super().listing()
        if self.times == 0:
            return found
        self.times -= 1
        return [*found, Listed("lake", "silver/t/gone.parquet", 1, "tag")]


@pytest.fixture
def clients() -> dict[str, Any]:
    lake, bronze = MemoryStore(), MemoryStore()
    for number in range(OBJECTS):
        named: Any = {"first-offset": str(number)}
        obstore.put(
            bronze, f"hw.public.t/{number:05}.gz", f"event {number}".encode(), attributes=named
        )
    obstore.put(lake, "silver/t/_delta_log/00000000000000000000.json", b"{}")
    obstore.put(lake, "silver/t/_delta_log/_last_checkpoint", b"{}")
    obstore.put(lake, "silver/t/a b=ü.parquet", b"rows")
    obstore.put(lake, "_headwater/silver-driver/000000000001", b"lease")
    return {"lake": lake, "bronze": bronze}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    (made / "secrets.json").write_text('{"mask_key": "of the masks"}')
    return made


@pytest.fixture
def target(home: Path, tmp_path: Path) -> Target:
    return Target(str(tmp_path / "place"), home=home)


def backed_up(home: Path, buckets: Buckets, target: Target, passphrase: str = "") -> Result:
    return back_up(home, buckets, target, passphrase, Silence())


def test_a_second_run_copies_only_what_changed_and_drops_what_is_gone(
    home: Path, clients: dict[str, Any], target: Target
) -> None:
    buckets = Buckets(clients)
    assert backed_up(home, buckets, target).copied == OBJECTS + 2
    assert backed_up(home, buckets, target).copied == 0
    before = target.contents()
    obstore.put(clients["bronze"], "hw.public.t/00007.gz", b"an erased event")
    assert backed_up(home, buckets, target).copied == 1
    assert b"event 7" not in [target.read(name) for name, _ in target.contents() - before]
    assert len(target.contents()) == len(before)


def test_an_interrupted_run_leaves_the_previous_backup_whole_and_goes_on_where_it_was(
    home: Path, clients: dict[str, Any], target: Target
) -> None:
    cut = Cut(clients)
    cut.left = OBJECTS // 2
    with pytest.raises(OSError, match="away"):
        backed_up(home, cut, target)
    with pytest.raises(HeadwaterError, match="there is no whole backup"):
        checked(target, Silence())
    rest = backed_up(home, Buckets(clients), target)
    assert 0 < rest.copied <= OBJECTS + 2 - 100  # a part of a hundred objects had been noted
    for number in range(OBJECTS):
        obstore.put(clients["bronze"], f"hw.public.t/{number:05}.gz", f"new {number}".encode())
    cut.left = OBJECTS // 2
    with pytest.raises(OSError, match="away"):
        backed_up(home, cut, target)
    manifest, entries = checked(target, Silence())
    assert manifest == rest.manifest
    [seventh] = [one for one in entries if one.key.endswith("00007.gz")]
    assert target.read(seventh.sha256) == b"event 7"


def test_objects_that_vanish_while_they_are_copied_are_listed_again_and_not_without_end(
    home: Path, clients: dict[str, Any], target: Target
) -> None:
    vanishing = Vanishing(clients)
    assert backed_up(home, vanishing, target).manifest.objects == OBJECTS + 2
    vanishing.times = 100
    with pytest.raises(HeadwaterError, match="objects vanished from the lake"):
        backed_up(home, vanishing, target)


def test_restored_buckets_have_the_same_objects_with_their_metadata(
    home: Path, clients: dict[str, Any], target: Target, tmp_path: Path
) -> None:
    backed_up(home, Buckets(clients), target)
    manifest, entries = checked(target, Silence())
    empty: dict[str, Any] = {"lake": MemoryStore(), "bronze": MemoryStore()}
    obstore.put(empty["bronze"], "hw.public.t/00003.gz", b"event 3")  # of an interrupted restore
    write_restored(tmp_path, RestoredLake(manifest.id))
    fill_buckets(tmp_path, Buckets(empty), target, entries, Silence())
    got = obstore.get(empty["bronze"], "hw.public.t/00007.gz")
    assert (bytes(got.bytes()), got.attributes["first-offset"]) == (b"event 7", "7")
    kept = {(one.role, one.key, one.size) for one in Buckets(clients).listing()}
    assert {(one.role, one.key, one.size) for one in Buckets(empty).listing()} == kept
    noted = read_restored(tmp_path)
    assert noted is not None and noted.complete
    obstore.put(empty["lake"], "silver/other/x.parquet", b"x")
    with pytest.raises(HeadwaterError, match="the buckets are not empty"):
        fill_buckets(tmp_path, Buckets(empty), target, entries, Silence())


def test_secrets_are_encrypted_with_a_passphrase_and_no_other_one_opens_them(
    home: Path, clients: dict[str, Any], target: Target, tmp_path: Path
) -> None:
    from app.backup.home_files import unpack_home

    made = backed_up(home, Buckets(clients), target, PASSPHRASE).manifest
    content, new = target.read(made.home_sha256), tmp_path / "new"
    assert made.encrypted
    for wrong, message in (("", "are encrypted"), ("another", "is not the one")):
        with pytest.raises(HeadwaterError, match=message):
            unpack_home(content, new, wrong, encrypted=True)
    unpack_home(content, new, PASSPHRASE, encrypted=True)
    assert (new / "secrets.json").read_bytes() == (home / "secrets.json").read_bytes()
    assert (new / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_folder_with_other_files_is_not_taken_for_a_backup(home: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    with pytest.raises(HeadwaterError, match="holds other files"):
        Target(str(tmp_path), home=home)


@pytest.mark.parametrize("folder", ["", "data/backup", "../home/backup"])
def test_a_backup_is_not_made_in_the_home_itself(home: Path, folder: str) -> None:
    with pytest.raises(HeadwaterError, match="lost together with it"):
        Target(str(home / folder), home=home)
    assert [one.name for one in home.iterdir()] == ["secrets.json"]


def test_a_prefix_follows_all_earlier_ones() -> None:
    assert next_prefix(["hw"]) == "hw2"
    assert next_prefix(["hw", "hw2", "hw10"]) == "hw11"
