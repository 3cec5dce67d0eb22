"""Spark's and Trino's workers in containers of their own (the profile `cluster`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tests.containers.project import PATIENCE_S, Containers, is_healthy
from tests.support.waiting import until

WORKERS = ("spark-worker", "spark-worker-2", "trino-worker", "trino-worker-2")
CLUSTER = {
    "COMPOSE_PROFILES": "cluster",
    "HEADWATER_SPARK_WORKERS": "2",
    "HEADWATER_TRINO_WORKERS": "2",
    # Then the executors merge even the demo's small tables.
    "HEADWATER_SPARK_MERGE_ROWS_MIN": "500",
}
NODES = "SELECT count(*) FROM system.runtime.nodes WHERE NOT coordinator AND state = 'active'"
BY_SPARK = "SELECT count(*) FROM ops.ledger WHERE engine = 'spark' AND table_name = 'ratings'"

pytestmark = pytest.mark.timeout(3_600)


@pytest.fixture(scope="module")
def cluster(project: Containers) -> Iterator[Containers]:
    project.down()  # if other files have started it, because both have the same ports
    made = project.beside()
    made.environment.update(CLUSTER)
    try:
        made.up()
        yield made
    finally:
        made.remove()


def test_every_worker_is_healthy_and_works_for_its_head(cluster: Containers) -> None:
    assert [name for name in WORKERS if not is_healthy(cluster.state(name))] == []
    assert cluster.query(NODES) == [(2,)]
    port = cluster.settings.ports.number("spark_master_ui")
    master = requests.get(f"http://127.0.0.1:{port}/json/", timeout=10).json()
    assert master["aliveworkers"] == 2


def test_executors_merge_the_snapshot_and_silver_equals_the_source(cluster: Containers) -> None:
    until(
        lambda: cluster.query(BY_SPARK),
        lambda found: found[0][0] > 0,
        within_s=PATIENCE_S,
        what="a batch of ratings merged by Spark",
        every_s=1.0,
    )
    assert {row["verdict"] for row in cluster.verify(timeout_s=PATIENCE_S)} == {"equal"}


def test_an_edited_row_arrives_after_a_worker_of_each_kind_was_killed(cluster: Containers) -> None:
    for name in ("spark-worker", "trino-worker"):
        cluster.docker("kill", cluster.container(name))
        cluster.docker("start", cluster.container(name))
    with cluster.source() as source:
        source.execute("UPDATE movies SET title = 'By another worker' WHERE movie_id = 1")
    until(
        lambda: cluster.query("SELECT title FROM silver.movies WHERE movie_id = 1"),
        lambda rows: rows == [("By another worker",)],
        within_s=PATIENCE_S,
        what="the edit in Trino",
        every_s=1.0,
    )
    assert {row["verdict"] for row in cluster.verify(timeout_s=PATIENCE_S)} == {"equal"}
