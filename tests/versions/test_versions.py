"""Each version of Postgres as a user's source: the main job, the type matrix, definitions.

`./headwater test versions` runs all; `--pytest "-k postgres-17"` selects one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spark_streaming.contract.names import silver_table
from tests.e2e import test_type_matrix as matrix
from tests.support.ddl_run import REFUSED_IN_EVENTS, clear_quarantine, run, settle
from tests.support.ddl_workload import Workload
from tests.support.matrix_tables import choose_texts, known, prepare
from tests.support.postgres_server import postgres_server
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

# Large values do not depend on the version.
NOT_HERE = "test_twenty_megabytes_arrive_by_snapshot_insert_and_update"
# The type matrix's tests in their order, with this file's `stack` instead of their own.
globals().update(
    {n: each for n, each in vars(matrix).items() if n.startswith("test_") and n != NOT_HERE}
)
extensions = matrix.extensions

VERSIONS = (13, 14, 16, 17, 18)
SOON_S = 240.0
DEFINITIONS_MINUTES = 1.0

pytestmark = pytest.mark.timeout(1_800)


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda version: f"postgres-{version}")
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def stack(version: int) -> Iterator[Stack]:
    """A stack on a user's database, prepared by `--apply`, with all tables of the matrix."""
    with postgres_server(version) as dsn, fresh_stack() as stack:
        stack.up("--source", dsn, "--apply", "--only", "connect")  # later starts include it
        with stack.source() as source:
            prepare(source)
            choose_texts(stack.settings.contracts_dir, known(source))
            source.execute("CREATE TABLE job (id int PRIMARY KEY, v text)")
            source.execute("INSERT INTO job SELECT i, 'row ' || i FROM generate_series(1, 100) i")
        stack.run("preflight", "--source", dsn, "--apply", timeout_s=SOON_S, expect=None)
        stack.up("--source", dsn, "--apply", "--only", "tables", "silver", "capture")
        yield stack


def test_a_row_edited_in_the_source_is_a_row_in_trinos_answer(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("INSERT INTO job VALUES (101, 'new')")
        source.execute("UPDATE job SET v = 'edited' WHERE id = 7")
        source.execute("UPDATE job SET id = 200 WHERE id = 8")
        source.execute("DELETE FROM job WHERE id = 9")
    until(
        lambda: stack.query("SELECT id, v FROM silver.job WHERE id IN (7, 8, 9, 101, 200)"),
        lambda rows: sorted(rows) == [(7, "edited"), (101, "new"), (200, "row 8")],
        within_s=SOON_S,
        what="the edited rows in Trino",
        every_s=0.5,
    )
    with stack.source() as source:
        source.execute("TRUNCATE job")
        source.execute("INSERT INTO job VALUES (1, 'again')")
    [verdict] = stack.verify("job")
    assert (verdict["verdict"], int(verdict["rows"])) == ("equal", 1)


def test_a_table_made_while_it_runs_is_followed_with_its_definitions(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("CREATE TABLE later (id int PRIMARY KEY, n int)")
        source.execute("INSERT INTO later VALUES (1, 10), (2, 20)")
        stack.await_tables("later", within_s=SOON_S)
        source.execute("ALTER TABLE later ADD COLUMN v text DEFAULT 'd'")
        source.execute("ALTER TABLE later ALTER COLUMN n TYPE bigint")
        source.execute("INSERT INTO later VALUES (3, 30, 'x'), (4, 9000000000, NULL)")
        source.execute("ALTER TABLE later RENAME COLUMN v TO w")
        source.execute("UPDATE later SET w = 'y' WHERE id = 1")
    [verdict] = stack.verify("later")
    assert (verdict["verdict"], int(verdict["rows"])) == ("equal", 4)


def test_generated_columns_are_left_out_and_move_no_value(stack: Stack, version: int) -> None:
    kinds = ["STORED", "VIRTUAL"] if version >= 18 else ["STORED"]
    for kind in kinds:
        table = f"generated_{kind.lower()}"
        with stack.source() as source:
            made = f"GENERATED ALWAYS AS (n * 2) {kind}"
            source.execute(
                f"CREATE TABLE {table} (id int PRIMARY KEY, twice int {made}, n int)".encode()
            )
            source.execute(f"INSERT INTO {table} (id, n) VALUES (1, 10), (2, 20)".encode())
            stack.await_tables(table, within_s=SOON_S)
            source.execute(f"UPDATE {table} SET n = 11 WHERE id = 1".encode())
            source.execute(f"INSERT INTO {table} (id, n) VALUES (3, 30)".encode())
        [verdict] = stack.verify(table)
        assert (verdict["verdict"], int(verdict["rows"])) == ("equal", 3)
        found = stack.query(f"SELECT id, n FROM silver.{table} ORDER BY id")
        assert found == [(1, 11), (2, 20), (3, 30)]
        assert "twice" not in [
            name for name, *_ in stack.query(f"SHOW COLUMNS FROM silver.{table}")
        ]


def test_random_rows_and_definitions_end_equal(stack: Stack, seed: int) -> None:
    with stack.source() as source:
        workload = Workload(source, seed)
        workload.begin()
        try:
            settle(source, workload)
            run(DEFINITIONS_MINUTES, workload.step)
            settle(source, workload)
            stack.run("verify", *map(str, workload.tables), expect=None, timeout_s=600)
            names = {silver_table("public", name): name for name in workload.tables}
            clear_quarantine(stack, workload, names, REFUSED_IN_EVENTS)
            verdicts = {row["table"]: row["verdict"] for row in stack.verify(*names)}
            assert set(verdicts.values()) == {"equal"}, verdicts
        finally:
            print(f"done, by kind: {dict(workload.done.most_common())}")
            workload.drop_all()
