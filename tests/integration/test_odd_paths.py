"""The home's and the cache's paths have spaces, an apostrophe and non-ASCII letters; with real services."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.artefacts.locking.cache import default_cache
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

NAME = "headwater test Ünï 日本 & O'Brien (1) "
SOON_S = 120.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Postgres, Kafka, the store, Connect and silver; the paths of jars and programs are odd, too."""
    cache = tmp_path_factory.mktemp("odd") / "Ünï cäche's"
    cache.symlink_to(default_cache())
    with fresh_stack(Path(tempfile.mkdtemp(prefix=NAME))) as stack:
        stack.environment["HEADWATER_CACHE"] = str(cache)
        stack.run("up", "--only", "silver", timeout_s=600)
        yield stack


def test_a_row_goes_all_the_way_from_the_source_to_silver(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("UPDATE genres SET name = name || ' (odd)' WHERE genre_id = 1")
    [row] = until(
        lambda: stack.verify("genres"),
        lambda rows: bool(rows) and rows[0]["verdict"] == "equal",
        within_s=SOON_S,
        what="genres equal",
    )
    assert row["rows"] > 0
    stack.run("verify", "--bronze", timeout_s=SOON_S)


def test_each_service_keeps_its_data_under_the_home_as_it_is_named(stack: Stack) -> None:
    data = stack.home / "data"
    assert (data / "kafka" / "meta.properties").is_file()
    assert (data / "silver" / "checkpoint" / "metadata").is_file()
    assert (data / "s3" / "bronze").is_dir()
    # Spark once made a second folder whose name was the URL-escaped name of the first.
    assert [path.name for path in Path(stack.home.parent).iterdir() if "%" in path.name] == []
