"""S3's guarantees with Google Cloud Storage behind the service `s3`, as far as an emulator can prove them.

The emulator has the preconditions of Google's JSON API, which the service uses. It has no identities, no
request limits, and no network delays.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest

from app.lake.object_store import examine
from tests.support.bucket import (
    ONLY_IF_FREE,
    PART_BYTES,
    Bucket,
    at_once,
    begin_upload,
    complete,
    put_part,
)
from tests.support.gcs import TOKENS, FakeGoogle, altered, fake_google, google_profile
from tests.support.stack import Stack, fresh_stack

BUCKETS = ("their-bronze", "their-lake")
RACERS = 3


@pytest.fixture(scope="module")
def google() -> Iterator[FakeGoogle]:
    with fake_google(*BUCKETS) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(google: FakeGoogle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The service `s3` alone, over Google."""
    with fresh_stack() as fresh:
        profile = google_profile(tmp_path_factory.mktemp("profile"), google, *BUCKETS)
        fresh.up("--only", "s3", "--profile", str(profile))
        yield fresh


@pytest.fixture(scope="module")
def bucket(gateway: Stack) -> Bucket:
    return Bucket(gateway)


def test_of_racing_puts_on_a_free_name_one_succeeds_and_its_bytes_are_there(bucket: Bucket) -> None:
    for round_ in range(20):
        key = f"races/free/{round_}"
        answers: dict[int, int] = {}

        def claim(n: int, key: str = key, answers: dict[int, int] = answers) -> None:
            answers[n] = bucket.ask("PUT", key, b"%d" % n * 5_000, headers=ONLY_IF_FREE).status

        at_once(*(partial(claim, n) for n in range(RACERS)))
        assert sorted(answers.values()) == [200, 412, 412], answers
        [winner] = [n for n, status in answers.items() if status == 200]
        assert bucket.get(key) == b"%d" % winner * 5_000


def test_of_racing_puts_on_one_etag_one_succeeds(bucket: Bucket) -> None:
    key = "races/etag"
    bucket.put(key, b"first")
    for round_ in range(10):
        _, etag = bucket.listing(2, {"prefix": key})[0][key]
        answers: dict[bytes, int] = {}

        def replace(body: bytes, answers: dict[bytes, int] = answers, etag: str = etag) -> None:
            headers = {"If-Match": f'"{etag}"'}
            answers[body] = bucket.ask("PUT", key, body, headers=headers).status

        at_once(*(partial(replace, b"%d by %d" % (round_, n)) for n in range(RACERS)))
        assert sorted(answers.values()) == [200, 412, 412], answers
        [held] = [body for body, status in answers.items() if status == 200]
        assert bucket.get(key) == held


def test_of_racing_completions_one_succeeds_and_its_object_stays_private(
    bucket: Bucket, google: FakeGoogle
) -> None:
    """Plain s3proxy lets all uploads succeed here, and makes the object readable by everybody."""
    for parts in (1, 3):
        key = f"races/parts/{parts}"
        bodies = [[b"%d" % n * PART_BYTES] * (parts - 1) + [b"by %d" % n] for n in range(RACERS)]
        uploads = [begin_upload(bucket, key) for _ in bodies]
        for upload, body in zip(uploads, bodies, strict=True):
            for number, part in enumerate(body, 1):
                put_part(bucket, key, upload, number, part)
        answers: dict[int, str] = {}

        def claim(
            n: int,
            key: str = key,
            uploads: list[str] = uploads,
            bodies: list[list[bytes]] = bodies,
            answers: dict[int, str] = answers,
        ) -> None:
            answer = complete(bucket, key, uploads[n], bodies[n], ONLY_IF_FREE)
            answers[n] = answer.code or "done"

        at_once(*(partial(claim, n) for n in range(RACERS)))
        assert sorted(answers.values()) == ["PreconditionFailed"] * 2 + ["done"], answers
        [winner] = [n for n, code in answers.items() if code == "done"]
        assert bucket.get(key) == b"".join(bodies[winner])
        assert "allUsers" not in google.readers(bucket.name, key)


def test_large_parts_at_once_fit_into_the_services_heap(bucket: Bucket, gateway: Stack) -> None:
    pid = gateway.observed("s3").pid
    key, parts = "large", [bytes([n]) * (16 << 20) for n in range(8)]
    upload = begin_upload(bucket, key)
    at_once(*(partial(put_part, bucket, key, upload, n, p) for n, p in enumerate(parts, 1)))
    assert complete(bucket, key, upload, parts).status == 200
    answer = bucket.ask("GET", key, headers={"Range": f"bytes=0-{1 << 20}"})
    assert answer.body == parts[0][: (1 << 20) + 1]
    assert gateway.observed("s3").pid == pid
    bucket.delete(key)


def test_a_listing_has_all_objects_in_order_page_by_page(bucket: Bucket) -> None:
    keys = [f"listed/{folder}{n:02d}" for folder in ("", "a/", "b/c/") for n in range(5)]
    for key in keys:
        bucket.put(key, key.encode())
    for version in (1, 2):
        for size in ("1", "4", "1000"):
            asked = {"prefix": "listed/", "max-keys": size}
            objects, _ = bucket.listing(version, asked)
            assert [*objects] == sorted(keys)
            objects, prefixes = bucket.listing(version, {**asked, "delimiter": "/"})
            assert [*objects] == [f"listed/{n:02d}" for n in range(5)]
            assert prefixes == ["listed/a/", "listed/b/"]
        tail = bucket.listing(version, {"prefix": "listed/a/", "start-after": "listed/a/02"})[0]
        assert [*tail] == ["listed/a/03", "listed/a/04"]


def test_preflight_asks_google_through_the_service(gateway: Stack, google: FakeGoogle) -> None:
    assert [one.status for one in examine(gateway.settings, apply=False)] == ["ok"] * 10
    assert not (gateway.home / "data" / "s3" / BUCKETS[1]).exists()
    assert google.names(BUCKETS[0]) == ["_headwater/conditional-put"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"lake_bucket": "absent"}, "gcloud storage buckets create gs://absent"),
        (
            {"gcs_credentials": "/nowhere/key.json"},
            "value '/nowhere/key.json': File does not exist",
        ),
    ],
)
def test_the_service_does_not_start_on_what_it_cannot_use(
    google: FakeGoogle, tmp_path: Path, other: dict[str, str], told: str
) -> None:
    profile = google_profile(tmp_path, google, *BUCKETS, **other)
    with fresh_stack() as fresh:
        refused = fresh.run("up", "--only", "s3", "--profile", str(profile), expect=1)
        assert told in (fresh.home / "run" / "s3" / "stderr.log").read_text(), refused.stderr


def test_the_service_does_not_start_where_preconditions_are_ignored(
    google: FakeGoogle, tmp_path: Path
) -> None:
    def without(path: str) -> str:
        return re.sub(r"ifGenerationMatch=\d+&?", "", path)

    with altered(google, without) as ignoring, fresh_stack() as fresh:
        profile = google_profile(tmp_path, ignoring, *BUCKETS)
        fresh.run("up", "--only", "s3", "--profile", str(profile), expect=1)
        told = (fresh.home / "run" / "s3" / "stderr.log").read_text()
    assert f"bucket `{BUCKETS[0]}`: a second put of _headwater/conditional-put" in told


def test_a_right_to_create_and_not_to_replace_suffices_for_conditional_puts(
    google: FakeGoogle, tmp_path: Path
) -> None:
    """Google's rights may answer 403 before its preconditions answer 412."""

    def refused(path: str) -> str | int:
        name = re.search(r"[?&]name=([^&]+)", path)
        if not path.startswith("/upload/") or name is None:
            return path
        return 403 if unquote(name[1]) in google.names(BUCKETS[1]) else path

    with altered(google, refused) as creating, fresh_stack() as fresh:
        profile = google_profile(tmp_path, creating, *BUCKETS)
        fresh.up("--only", "s3", "--profile", str(profile))
        bucket = Bucket(fresh)
        statuses = [bucket.ask("PUT", "once", b"1", headers=ONLY_IF_FREE).status for _ in "12"]
        assert statuses == [200, 412]
        assert bucket.ask("PUT", "once", b"2").status == 403


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the test's key")
def test_the_service_asks_as_the_account_of_the_credentials_file(
    google: FakeGoogle, tmp_path: Path
) -> None:
    made = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    private = subprocess.run(made, capture_output=True, text=True, check=True).stdout
    with altered(google, str) as asked, fresh_stack() as fresh:
        key = {"type": "service_account", "client_id": "1", "project_id": "test"}
        key |= {"private_key": private, "private_key_id": "1", "client_email": "s3@test.example"}
        path = tmp_path / "key.json"
        path.write_text(json.dumps({**key, "token_uri": asked.endpoint + TOKENS}))
        profile = google_profile(tmp_path, asked, *BUCKETS, gcs_credentials=str(path))
        fresh.up("--only", "s3", "--profile", str(profile))
        assert Bucket(fresh).ask("PUT", "as/account", b"1").status == 200
    assert asked.authorizations == {"Bearer granted"}
    claims = asked.assertions[0].split(".")[1]
    assert json.loads(urlsafe_b64decode(claims + "=="))["iss"] == "s3@test.example"


def test_preflight_says_that_google_is_asked_by_the_service(
    google: FakeGoogle, tmp_path: Path
) -> None:
    profile = google_profile(tmp_path, google, *BUCKETS)
    with fresh_stack() as fresh:
        told = fresh.run("preflight", "--profile", str(profile), "--format", "json", expect=1)
        assert "Google's buckets are checked by the service s3 at its start" in told.stdout
