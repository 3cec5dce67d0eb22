"""Backups in a bucket are made, updated and restored over S3.

For the bucket the test uses the store of the stack that it backs up.
"""

from __future__ import annotations

from collections.abc import Iterator

import obstore
import pytest

from app.backup.buckets import Buckets
from app.backup.home_files import VARIABLE
from spark_streaming.storage.s3_request import ask
from tests.support.stack import Stack, fresh_stack

OBJECTS = 150
PLACE = "s3://backups/of-stack"
PASSPHRASE = "a long one"


@pytest.fixture(scope="module")
def owner() -> Iterator[Stack]:
    """A stack whose store has some objects, and a bucket for backups."""
    with fresh_stack() as fresh:
        fresh.up("--only", "s3")
        store = fresh.settings.store
        ask(store, "PUT", "backups", body=b"")
        clients = Buckets.of(store).clients
        for number in range(OBJECTS):
            named = {"first-offset": str(number)}
            body = f"event {number}".encode()
            obstore.put(clients["bronze"], f"hw.public.t/{number:05}.gz", body, attributes=named)
        fresh.environment |= {
            "AWS_ENDPOINT_URL": store.endpoint,
            "AWS_REGION": store.region,
            "AWS_ACCESS_KEY_ID": fresh.settings.secret("s3_access_key"),
            "AWS_SECRET_ACCESS_KEY": fresh.settings.secret("s3_secret_key"),
            VARIABLE: PASSPHRASE,
        }
        yield fresh


def test_a_backup_in_a_bucket_is_restored_and_a_second_one_copies_only_what_is_new(
    owner: Stack,
) -> None:
    first = owner.answer("backup", PLACE)
    assert (first["copied_objects"], first["secrets"]) == (OBJECTS, "encrypted")
    assert owner.answer("backup", PLACE)["copied_objects"] == 0
    assert owner.answer("restore", PLACE, "--check")["checksums"] == "right"
    with fresh_stack() as new:
        new.environment |= {
            name: owner.environment[name] for name in owner.environment if name.startswith("AWS_")
        }
        assert "are encrypted" in new.run("restore", PLACE, expect=1).stderr
        new.environment[VARIABLE] = PASSPHRASE
        assert new.answer("restore", PLACE)["objects"] == OBJECTS
        kept, lost = (stack.home / "secrets.json" for stack in (new, owner))
        assert kept.read_bytes() == lost.read_bytes()
        new.up("--only", "s3")
        got = obstore.get(Buckets.of(new.settings.store).clients["bronze"], "hw.public.t/00007.gz")
        assert (bytes(got.bytes()), got.attributes["first-offset"]) == (b"event 7", "7")


@pytest.mark.parametrize(
    ("place", "changed", "message"),
    [
        (PLACE, {VARIABLE: ""}, "a backup in a bucket needs a passphrase"),
        ("s3://nowhere/of-stack", {}, "NoSuchBucket"),
        (PLACE, {"AWS_SECRET_ACCESS_KEY": "another"}, "SignatureDoesNotMatch"),
        (PLACE, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_named_with_its_answer(
    owner: Stack, place: str, changed: dict[str, str], message: str
) -> None:
    before = dict(owner.environment)
    try:
        owner.environment |= changed
        ended = owner.run("backup", place, expect=1)
    finally:
        owner.environment.clear()
        owner.environment |= before
    assert message in ended.stderr and "hint: " in ended.stderr
    assert "defect" not in ended.stderr and "Debug source" not in ended.stderr
