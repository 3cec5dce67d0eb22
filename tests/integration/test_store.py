"""The embedded object store's listings give the same answers as S3, page by page."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from app.environment.settings import Settings
from spark_streaming.storage.s3_request import ask
from tests.support.bronze import store
from tests.support.stack import Stack

LOG = "listing/table/_delta_log/"
PAGE_LIMIT = 200


class Listed(NamedTuple):
    key: str
    size: int
    etag: str


def page(settings: Settings, bucket: str, **asked: str) -> tuple[list[Listed], list[str], str]:
    """One page of a listing: its objects, its common prefixes, where the next page begins."""
    named = {name.replace("_", "-"): value for name, value in asked.items()}
    answer = ask(settings.store, "GET", bucket, query={"list-type": "2", **named})
    assert answer.status == 200, answer.body.decode()
    tree = ElementTree.fromstring(answer.body)
    space = tree.tag.partition("}")[0] + "}"

    def said(node: ElementTree.Element, *path: str) -> str:
        return node.findtext("/".join(space + name for name in path)) or ""

    objects = [
        Listed(said(node, "Key"), int(said(node, "Size")), said(node, "ETag").strip('"'))
        for node in tree.iter(f"{space}Contents")
    ]
    prefixes = [said(node, "Prefix") for node in tree.iter(f"{space}CommonPrefixes")]
    return objects, prefixes, said(tree, "NextContinuationToken")


def listing(settings: Settings, bucket: str, **asked: str) -> tuple[list[Listed], list[str]]:
    """All pages."""
    objects, prefixes, more = page(settings, bucket, **asked)
    for _ in range(PAGE_LIMIT):
        if not more:
            return objects, prefixes
        next_objects, next_prefixes, more = page(settings, bucket, continuation_token=more, **asked)
        objects += next_objects
        prefixes += next_prefixes
    raise AssertionError(f"more than {PAGE_LIMIT} pages")


def expected(
    held: Mapping[str, Listed], prefix: str, start_after: str, delimiter: str
) -> tuple[list[Listed], list[str]]:
    """S3's answer for these objects."""
    objects: list[Listed] = []
    prefixes: list[str] = []
    for key in sorted(held):
        if not key.startswith(prefix):
            continue
        rest, cut, _ = key[len(prefix) :].partition("/")
        shown = prefix + rest + "/" if delimiter and cut else key
        if shown <= start_after:
            continue
        if shown == key:
            objects.append(held[key])
        elif shown not in prefixes:
            prefixes.append(shown)
    return objects, prefixes


@pytest.fixture(scope="module")
def held(object_store: Stack) -> dict[str, Listed]:
    """Objects of a Delta log, of bronze, and with unusual names; by key."""
    names = [f"{LOG}{version:020d}.json" for version in range(40)]
    names += [f"{LOG}{10:020d}.checkpoint.parquet", f"{LOG}_last_checkpoint"]
    names += [f"listing/bronze/block={block}/{at:03d}.part" for block in (0, 1) for at in range(9)]
    names += ["listing/odd/a", "listing/odd/a.json", "listing/odd/b/c", "listing/odd/b.json"]
    names += ["listing/odd/ä ö", "listing/odd/z/y/x", "listing/odd/.hidden"]
    files = store(object_store.settings)
    for name in names:
        with files.open_output_stream(f"{object_store.settings.store.lake_bucket}/{name}") as out:
            out.write(name.encode() * 3)
    found, _ = listing(
        object_store.settings, object_store.settings.store.lake_bucket, prefix="listing/"
    )
    assert {entry.key: entry.size for entry in found} == {
        name: len(name.encode()) * 3 for name in names
    }
    assert all(entry.etag for entry in found)
    return {entry.key: entry for entry in found}


def test_the_tail_of_a_delta_log_is_listed_with_sizes_and_etags(
    object_store: Stack, held: dict[str, Listed]
) -> None:
    after = f"{LOG}{36:020d}.json"
    found, _ = listing(
        object_store.settings,
        object_store.settings.store.lake_bucket,
        prefix=LOG,
        start_after=after,
    )
    assert found == expected(held, LOG, after, "")[0]
    assert [entry.key.removeprefix(LOG) for entry in found] == [
        f"{37:020d}.json", f"{38:020d}.json", f"{39:020d}.json", "_last_checkpoint"
    ]  # fmt: skip


def test_listings_equal_s3s_at_any_prefix_start_delimiter_and_page_size(
    object_store: Stack, held: dict[str, Listed], seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(300):
        key = chance.choice(sorted(held))
        prefix = key[: chance.randrange(len("listing/"), len(key) + 1)]
        if chance.random() < 0.5:
            prefix = key[: key.rindex("/") + 1]
        start_after = chance.choice(["", key, key[:-1], key + "0", chance.choice(sorted(held))])
        delimiter = chance.choice(["", "/"])
        asked = {"prefix": prefix, "max_keys": str(chance.choice([1, 2, 7, 1000]))}
        if start_after:
            asked["start_after"] = start_after
        if delimiter:
            asked["delimiter"] = delimiter
        found = listing(object_store.settings, object_store.settings.store.lake_bucket, **asked)
        wanted = expected(held, prefix, start_after, delimiter)
        assert found == wanted, f"{asked} start_after={start_after}"


def test_a_listing_beyond_the_last_key_is_empty(
    object_store: Stack, held: dict[str, Listed]
) -> None:
    del held
    bucket = object_store.settings.store.lake_bucket
    assert listing(object_store.settings, bucket, prefix=LOG, start_after=f"{LOG}z") == ([], [])


def test_a_key_never_leads_out_of_its_bucket(object_store: Stack) -> None:
    bucket = object_store.settings.store.bronze_bucket
    prefix = f"../{object_store.settings.store.lake_bucket}/{LOG}"
    with pytest.raises(AssertionError):
        listing(object_store.settings, bucket, prefix=prefix, start_after=f"{prefix}0")
