"""The embedded object store answers like S3 while several clients write and delete.

The random cases come from a seed; the timing of the threads depends on the machine.
"""

from __future__ import annotations

import hashlib
import random
import time
from base64 import b64encode
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from spark_streaming.storage.s3_request import Answer
from tests.support.bucket import (
    JOB_S,
    ONLY_IF_FREE,
    PART_BYTES,
    Bucket,
    at_once,
    begin_upload,
    complete,
    digest,
    meanwhile,
    put_part,
)
from tests.support.stack import Stack

LISTINGS = 150


@pytest.fixture(scope="module")
def bucket(object_store: Stack) -> Bucket:
    return Bucket(object_store)


def log_name(version: int) -> str:
    return f"{version:020d}.json"


def test_the_tail_of_a_folder_is_listed_while_objects_vanish_from_it(bucket: Bucket) -> None:
    """Like a listing of a Delta log during its clean-up: s3proxy answered NoSuchKey."""
    folder = "races/tail/_delta_log/"
    bucket.put(folder + log_name(900), b"stays")
    names = iter(range(1_000_000))

    def come_and_go() -> None:
        some = [folder + log_name(500 + next(names) % 300) for _ in range(3)]
        for name in some:
            bucket.put(name, b"goes")
        for name in some:
            bucket.delete(name)

    with meanwhile(come_and_go, come_and_go):
        for _ in range(LISTINGS):
            found, _ = bucket.listing(2, {"prefix": folder, "start-after": folder + log_name(100)})
            assert found[folder + log_name(900)] == (5, digest(b"stays"))
            assert all(etag for _, etag in found.values()), found


def asked_for(key: str, prefix: str, start_after: str, delimiter: str) -> str:
    """A listing's entry for a key: the key, its common prefix, or nothing."""
    if not key.startswith(prefix):
        return ""
    rest, cut, _ = key[len(prefix) :].partition("/")
    shown = prefix + rest + "/" if delimiter and cut else key
    return shown if shown > start_after else ""


def test_any_listing_under_writes_and_deletes_holds_what_stays_and_nothing_that_never_was(
    bucket: Bucket, seed: int
) -> None:
    chance = random.Random(seed)
    top = "races/any/"
    stays = [f"{top}{folder}{n:02d}" for folder in ("", "a/", "a/b/", "c/") for n in range(6)]
    moves = [f"{top}{folder}{n:02d}x" for folder in ("", "a/", "a/b/", "gone/") for n in range(8)]
    moves += [f"{top}a/named-{uuid4()}" for _ in range(4)]  # names like those of Trino's files
    for key in stays:
        bucket.put(key, key.encode())

    def write(chance: random.Random) -> None:
        key = chance.choice(moves)
        if chance.random() < 0.5:
            bucket.put(key, key.encode() * chance.choice([1, 1, 20_000]))
        else:
            bucket.delete(key)

    def overwrite(chance: random.Random) -> None:
        key = chance.choice(stays)
        bucket.put(key, key.encode())

    writers = [partial(write, random.Random(seed + n)) for n in range(2)]
    with meanwhile(*writers, partial(overwrite, random.Random(seed + 9))):
        for _ in range(LISTINGS):
            key = chance.choice(stays + moves)
            prefix = chance.choice([top, key[: key.rindex("/") + 1], key[:-1]])
            start_after = chance.choice(["", "", key, key[:-1], prefix + "0"])
            delimiter = chance.choice(["", "/"])
            asked = {"prefix": prefix, "max-keys": chance.choice(["2", "7", "1000", "1000"])}
            asked |= {"start-after": start_after} if start_after else {}
            asked |= {"delimiter": delimiter} if delimiter else {}
            version = chance.choice([1, 2])
            objects, prefixes = bucket.listing(version, asked)
            case = f"version {version} {asked}"
            keys = list(objects)
            assert keys == sorted(keys), case
            must = {asked_for(key, prefix, start_after, delimiter) for key in stays} - {""}
            may = {asked_for(key, prefix, start_after, delimiter) for key in moves} - {""}
            assert must <= {*keys, *prefixes}, f"{case}: {must - {*keys, *prefixes}} is missing"
            assert {*keys, *prefixes} <= must | may, case
            for name, (size, etag) in objects.items():
                assert size in (len(name), len(name) * 20_000), f"{case}: {name} has {size} bytes"
                body = name.encode() * (size // len(name))
                assert name not in stays or etag == digest(body), f"{case}: {name}"
                assert etag, f"{case}: {name} without an ETag"


def test_what_a_killed_put_left_behind_is_in_no_listing(
    bucket: Bucket, object_store: Stack
) -> None:
    key = f"races/killed/{uuid4()}"
    bucket.put(key, b"whole")
    [data] = Path(object_store.home).rglob(key)
    left = data.with_name(f"{data.name}-{uuid4()}")
    left.write_bytes(b"half of i")
    whole = f"{key}-{uuid4()}"
    bucket.put(whole, b"an object of such a name")
    for version in (1, 2):
        for more in ({}, {"start-after": "races/killed/0"}, {"delimiter": "/"}, {"max-keys": "1"}):
            objects, _ = bucket.listing(version, {"prefix": "races/killed/", **more})
            assert [*objects] == [key, whole], more


def test_of_racing_puts_on_a_free_name_one_succeeds_and_its_bytes_are_there(
    bucket: Bucket, seed: int
) -> None:
    chance = random.Random(seed)
    for round_ in range(30):
        key = f"races/free/{chance.randrange(3)}/{round_}"
        answers: dict[int, int] = {}

        def claim(n: int, key: str = key, answers: dict[int, int] = answers) -> None:
            answers[n] = bucket.ask("PUT", key, b"%d" % n * 5_000, headers=ONLY_IF_FREE).status

        at_once(*(partial(claim, n) for n in range(4)))
        assert sorted(answers.values()) == [200, 412, 412, 412], answers
        [winner] = [n for n, status in answers.items() if status == 200]
        assert bucket.get(key) == b"%d" % winner * 5_000


def test_of_racing_puts_on_one_etag_one_succeeds(bucket: Bucket) -> None:
    key = "races/etag"
    held = b"first"
    bucket.put(key, held)
    for round_ in range(30):
        answers: dict[bytes, int] = {}
        condition = {"If-Match": f'"{digest(held)}"'}

        def replace(
            body: bytes, answers: dict[bytes, int] = answers, on: dict[str, str] = condition
        ) -> None:
            answers[body] = bucket.ask("PUT", key, body, headers=on).status

        at_once(*(partial(replace, b"%d by %d" % (round_, n)) for n in range(4)))
        assert sorted(answers.values()) == [200, 412, 412, 412], answers
        [held] = [body for body, status in answers.items() if status == 200]
        assert bucket.get(key) == held


def test_an_overwritten_object_is_read_whole_and_never_older_than_a_put_that_ended(
    bucket: Bucket, seed: int
) -> None:
    chance = random.Random(seed)
    key = "races/whole"
    ended = 0

    def body_of(version: int) -> bytes:
        return b"%08d" % version * (1 + version * 7919 % 40_000)

    bucket.put(key, body_of(0))

    def overwrite() -> None:
        nonlocal ended
        bucket.put(key, body_of(ended + 1))
        ended += 1

    with meanwhile(overwrite):
        for _ in range(120):
            least = ended
            if chance.random() < 0.5:
                found = bucket.get(key)
                version = int(found[:8])
                assert found == body_of(version), f"version {version} is torn"
            else:
                answer = bucket.ask("GET", key, headers={"Range": "bytes=0-7"})
                assert (answer.status, len(answer.body)) == (206, 8)
                version = int(answer.body)
            assert version >= least


def test_a_put_succeeds_while_a_delete_empties_its_folder(bucket: Bucket) -> None:
    """The folder on the disk is removed with its last object; a bucket has no folders."""
    for round_ in range(150):
        folder = f"races/emptied/{round_ % 3}/deep/er/"
        kept, gone = f"{folder}{round_}", f"{folder}gone"
        bucket.put(gone, b"goes")
        at_once(partial(bucket.delete, gone), partial(bucket.put, kept, b"stays"))
        assert bucket.get(kept) == b"stays"
        assert bucket.ask("HEAD", gone).status == 404
        bucket.delete(kept)


def test_an_upload_in_parts_is_there_when_it_is_completed_and_not_before(
    bucket: Bucket, seed: int
) -> None:
    chance = random.Random(seed)
    for round_ in range(3):
        key = f"races/parts/a/{round_}"
        parts = [chance.randbytes(PART_BYTES), chance.randbytes(PART_BYTES), b"last"]
        upload = begin_upload(bucket, key)
        jobs = [partial(put_part, bucket, key, upload, n, p) for n, p in enumerate(parts, 1)]
        at_once(*jobs, partial(bucket.listing, 2, {"prefix": "races/parts/"}))
        assert bucket.ask("HEAD", key).status == 404
        assert key not in bucket.listing(2, {"prefix": "races/parts/"})[0]
        done = complete(bucket, key, upload, parts)
        assert done.status == 200, done.summary()
        assert not done.code, done.summary()
        assert bucket.get(key) == b"".join(parts)
        found, _ = bucket.listing(2, {"prefix": "races/parts/"})
        etag = digest(b"".join(bytes.fromhex(digest(part)) for part in parts))
        assert found[key] == (sum(map(len, parts)), f"{etag}-3")
        bucket.delete(key)


def test_of_racing_completions_on_a_free_name_one_succeeds(bucket: Bucket) -> None:
    for round_ in range(8):
        key = f"races/completed/{round_}"
        bodies = [[b"by %d" % n] for n in range(3)]
        uploads = [begin_upload(bucket, key) for _ in bodies]
        for upload, [body] in zip(uploads, bodies, strict=True):
            put_part(bucket, key, upload, 1, body)
        answers: dict[int, bool] = {}

        def claim(
            n: int,
            key: str = key,
            uploads: list[str] = uploads,
            bodies: list[list[bytes]] = bodies,
            answers: dict[int, bool] = answers,
        ) -> None:
            answer = complete(bucket, key, uploads[n], bodies[n], ONLY_IF_FREE)
            answers[n] = answer.ok and not answer.code

        at_once(*(partial(claim, n) for n in range(3)))
        [winner] = [n for n, succeeded in answers.items() if succeeded]
        assert bucket.get(key) == b"by %d" % winner


def test_ranges_are_the_bytes_they_name(bucket: Bucket, seed: int) -> None:
    chance = random.Random(seed)
    key, body = "races/ranges", chance.randbytes(300_000)
    bucket.put(key, body)
    for _ in range(40):
        first = chance.randrange(len(body))
        last = chance.choice([first, len(body) - 1, chance.randrange(first, len(body) + 500)])
        asked, wanted = chance.choice(
            [
                (f"bytes={first}-{last}", body[first : last + 1]),
                (f"bytes={first}-", body[first:]),
                (f"bytes=-{last + 1}", body[-(last + 1) :]),
            ]
        )
        answer = bucket.ask("GET", key, headers={"Range": asked})
        assert (answer.status, answer.body) == (206, wanted), asked
    assert bucket.ask("GET", key, headers={"Range": f"bytes={len(body)}-"}).status == 416


def test_a_batch_delete_deletes_all_that_it_names_while_others_write_beside_it(
    bucket: Bucket,
) -> None:
    for round_ in range(10):
        folder = f"races/batch/{round_ % 2}/"
        named = [f"{folder}{n}" for n in range(10)]
        for key in named[:8]:  # two never existed
            bucket.put(key, b"goes")
        listed = "".join(f"<Object><Key>{key}</Key></Object>" for key in named)
        body = f"<Delete>{listed}</Delete>".encode()
        md5 = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        answers: list[Answer] = []

        def delete(body: bytes = body, md5: str = md5, answers: list[Answer] = answers) -> None:
            headers = {"Content-MD5": md5}
            answers.append(bucket.ask("POST", "", body, query={"delete": ""}, headers=headers))

        beside = [partial(bucket.put, f"{folder}beside{n}", b"stays") for n in range(3)]
        at_once(delete, *beside)
        [answer] = answers
        assert answer.status == 200, answer.summary()
        assert b"<Error>" not in answer.body, answer.body.decode()
        assert answer.body.count(b"<Deleted>") == len(named)
        objects, _ = bucket.listing(2, {"prefix": folder})
        assert [*objects] == [f"{folder}beside{n}" for n in range(3)]
        for key in objects:
            bucket.delete(key)


def test_a_copy_of_an_object_that_is_overwritten_is_whole(bucket: Bucket) -> None:
    source = "races/copied/from"
    versions = [b"%08d" % n * (1 + n * 5_000) for n in range(20)]
    bucket.put(source, versions[0])
    turn = iter(range(1_000_000))

    def overwrite() -> None:
        bucket.put(source, versions[next(turn) % len(versions)])

    def come_and_go() -> None:
        bucket.put("races/copied/to/0/gone", b"goes")
        bucket.delete("races/copied/to/0/gone")

    with meanwhile(overwrite, come_and_go):
        for round_ in range(40):
            target = f"races/copied/to/{round_ % 2}/copy"
            copied = bucket.ask(
                "PUT", target, headers={"x-amz-copy-source": f"/{bucket.name}/{source}"}
            )
            assert copied.status == 200, copied.summary()
            body = bucket.get(target)
            assert body == versions[int(body[:8])], "torn"
            size, etag = bucket.listing(2, {"prefix": target})[0][target]
            assert (size, etag) == (len(body), digest(body))
            bucket.delete(target)


def test_each_put_is_seen_by_every_later_reader(bucket: Bucket, seed: int) -> None:
    chance = random.Random(seed)
    deadline = time.monotonic() + JOB_S

    def write_and_read(worker: int, chance: random.Random) -> None:
        held: dict[str, bytes] = {}
        folder = f"races/seen/{worker}/"
        for n in range(25):
            assert time.monotonic() < deadline
            key = f"{folder}{chance.randrange(5)}"
            if key in held and chance.random() < 0.4:
                bucket.delete(key)
                del held[key]
                assert bucket.ask("GET", key).status == 404
            else:
                held[key] = b"%d" % n * 100
                bucket.put(key, held[key])
                assert bucket.get(key) == held[key]
            objects, _ = bucket.listing(2, {"prefix": folder})
            wanted = {key: (len(body), digest(body)) for key, body in sorted(held.items())}
            assert objects == wanted

    at_once(*(partial(write_and_read, n, random.Random(chance.random())) for n in range(3)))
