"""The cluster in miniature with TLS and log-ins between its parts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.support.stack import ROOT, Stack, fresh_stack

PROFILE = ROOT / "profiles" / "secure-cluster-in-miniature.toml"
SOON_S = 300.0
NODES = (
    "SELECT count(*) FROM system.runtime.nodes WHERE state = 'active' AND http_uri LIKE 'https://%'"
)
ROWS = 40_000
FEW = "spark_merge_rows_min = 500"  # every batch reaches it, even if the machine is busy
BY_SPARK = "SELECT count(*) > 0 FROM ops.ledger WHERE engine = 'spark' AND table_name = 'many'"

pytestmark = pytest.mark.timeout(1_500)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    before = dict(os.environ)  # settings of an encrypted home make this process trust its authority
    try:
        with fresh_stack() as fresh:
            profile = tmp_path_factory.mktemp("profile") / "secure.toml"
            text, count = re.subn(r"(?m)^spark_merge_rows_min = .*$", FEW, PROFILE.read_text())
            assert count == 1
            profile.write_text(text)
            fresh.up("--profile", str(profile), "--only", "silver", "tables", "capture")
            yield fresh
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_nodes_reach_each_other_under_tls_and_silver_equals_the_source(stack: Stack) -> None:
    assert stack.query(NODES) == [(3,)]
    with stack.source() as source:
        source.execute("CREATE TABLE many (id int PRIMARY KEY, name text)")
        source.execute(
            "INSERT INTO many SELECT n, md5(n::text) FROM generate_series(1, %s) AS n", [ROWS]
        )
        source.execute("UPDATE movies SET title = 'Under TLS' WHERE movie_id = 1")
    title = "SELECT title FROM movies WHERE movie_id = 1"
    stack.await_answer(title, [("Under TLS",)], within_s=SOON_S)
    stack.await_answer("SELECT count(*) FROM many", [(ROWS,)], within_s=SOON_S)
    stack.await_answer(BY_SPARK, [(True,)], within_s=SOON_S)
    assert {row["verdict"] for row in stack.verify()} == {"equal"}


def test_a_row_arrives_after_a_broker_and_a_connect_worker_were_killed(stack: Stack) -> None:
    for service in ("kafka-2", "connect-2"):
        stack.kill(service)
    with stack.source() as source:
        source.execute("UPDATE movies SET title = 'After kills' WHERE movie_id = 1")
    title = "SELECT title FROM movies WHERE movie_id = 1"
    stack.await_answer(title, [("After kills",)], within_s=SOON_S)
    assert {row["verdict"] for row in stack.verify()} == {"equal"}
