"""A user's database with every type, name and shape of table, under random rows and definitions.

`up --source DSN --apply` runs on a new database: the whole type matrix, strange
names, composite and missing keys, partitions. At the end silver equals the source, bronze is complete, and
each entry of the quarantine names the value and column that caused it.
"""

from __future__ import annotations

import json
import os

import psycopg

from spark_streaming.contract.names import silver_table
from tests.support.ddl_run import (
    REFUSED_IN_EVENTS,
    Source,
    assert_bronze_is_whole,
    clear_quarantine,
    open_entries,
    run,
    settle,
)
from tests.support.ddl_workload import Workload
from tests.support.matrix_tables import choose_texts, known, prepare
from tests.support.matrix_workload import MatrixWorkload
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SOON_S = 300.0


def test_a_database_of_every_type_and_shape_is_the_lakes_after_random_rows_and_definitions(
    seed: int,
) -> None:
    minutes = float(os.environ.get("HEADWATER_FAULT_MINUTES") or 1)
    with fresh_stack() as server, fresh_stack() as stack:
        server.up("--only", "postgres")
        with server.source() as source:
            source.execute("CREATE DATABASE yours")
        dsn = server.settings.source_dsn.rpartition("/")[0] + "/yours"
        with psycopg.connect(dsn, autocommit=True) as source:
            prepare(source)
            choose_texts(stack.settings.contracts_dir, known(source))
            stack.up("--source", dsn, "--apply")
            matrix, workload = MatrixWorkload(source, seed), Workload(source, seed)
            try:
                workload.begin()
                settle(source, workload)
                run(minutes, workload.step, matrix.step)
                settle(source, workload)
            finally:
                print(f"done, by kind: {dict((workload.done + matrix.done).most_common())}")
            assert_all_of_it_is_there(stack, source, workload, matrix)


def assert_all_of_it_is_there(
    stack: Stack, source: Source, workload: Workload, matrix: MatrixWorkload
) -> None:
    """Check that silver equals the source except for explained entries of the quarantine."""
    rows = stack.verify("--allow-quarantined", timeout_s=900)
    verdicts = {row["table"]: row["verdict"] for row in rows}
    assert set(verdicts.values()) <= {"equal", "explained", "dropped"}, verdicts
    explain_refused(stack, matrix)
    random_ones = {silver_table("public", name): name for name in workload.tables}
    clear_quarantine(stack, workload, random_ones, REFUSED_IN_EVENTS)
    source.execute("DELETE FROM matrix_refused WHERE id = ANY(%s)", [list(matrix.refused)])
    verdicts = {row["table"]: row["verdict"] for row in stack.verify(timeout_s=900)}
    assert set(verdicts.values()) <= {"equal", "dropped"}, verdicts
    assert {"matrix", "matrix_bag", "matrix_large", "wide", *random_ones} <= set(verdicts)
    left = [entry for entry in open_entries(stack) if entry["table_name"] in verdicts]
    assert left == [], "entries of rows that are gone"
    assert_bronze_is_whole(stack)


def explain_refused(stack: Stack, matrix: MatrixWorkload) -> None:
    """Check that exactly the values that silver cannot hold are in quarantine, by column."""
    entries = until(
        lambda: [e for e in open_entries(stack) if e["table_name"] == "matrix_refused"],
        lambda found: {json.loads(e["key"])["id"] for e in found} == set(matrix.refused),
        within_s=SOON_S,
        what="the refused rows in quarantine",
        every_s=1,
    )
    for entry in entries:
        each, _ = matrix.refused[json.loads(entry["key"])["id"]]
        assert f"column {each.column} (" in entry["reason"], entry
    print(f"{len(entries)} entries of the type matrix in quarantine, all explained")
