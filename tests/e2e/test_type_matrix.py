"""Every type, name and shape of table on the real chain: by snapshot, insert, update and delete."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest

from app.lake.lakehouse import Lakehouse
from spark_streaming.contract.canonical import SESSION_SETTINGS
from spark_streaming.contract.names import topic_of
from spark_streaming.events.event import Place
from spark_streaming.quarantine.raw_events import place_in
from tests.support.entries import entries_of
from tests.support.matrix_tables import (
    CHANGES,
    INSERTED,
    UPDATED,
    Source,
    by_choice,
    choose_texts,
    known,
    large_values,
    noise,
    prepare,
    refusals,
    stream,
)
from tests.support.odd_tables import odd_tables
from tests.support.stack import Stack, fresh_stack
from tests.support.type_cases import AS_TEXT, TYPES, Type
from tests.support.waiting import until

SOON_S = 240.0
# Built-in types whose values cannot be written.
WITHOUT_INPUT = {
    "pg_node_tree", "gtsvector", "pg_ndistinct", "pg_dependencies", "pg_mcv_list",
    "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary",
}  # fmt: skip


@pytest.fixture(scope="module")
def extensions(stack: Stack) -> set[str]:
    """The extensions of the matrix that the server has."""
    with stack.source() as source:
        found = source.execute("SELECT extname FROM pg_extension").fetchall()
    return {name for (name,) in found}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack whose source has all tables with rows before the first snapshot."""
    with fresh_stack() as stack:
        stack.up("--only", "postgres")
        with stack.source() as source:
            prepare(source)
            choose_texts(stack.settings.contracts_dir, known(source))
        stack.up("--only", "tables", "silver", "capture")
        yield stack


def test_the_server_has_the_extensions_that_are_called_tried_and_no_others(
    extensions: set[str],
) -> None:
    needed = {each.extension: each.tried for each in TYPES if each.extension}
    assert {name: name in extensions for name in needed} == needed


def test_the_matrix_has_every_built_in_type(stack: Stack) -> None:
    with stack.source() as source:
        built_in = source.execute(
            "SELECT typname::text FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace "
            "AND typtype IN ('b', 'r', 'm') AND typelem = 0"
        ).fetchall()
        used = source.execute(
            "SELECT DISTINCT typname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE attrelid = 'matrix'::regclass AND attnum > 0"
        ).fetchall()
    missing = {name for (name,) in built_in} - {name for (name,) in used} - WITHOUT_INPUT
    assert missing == {"refcursor"}, "of which no table is captured"


def test_preflight_names_what_silver_cannot_hold_and_what_is_left_out(stack: Stack) -> None:
    found = stack.checks("--source", stack.settings.source_dsn)
    assert (found["table public.unlogged"]["status"]) == "left out"
    assert "unlogged" in found["table public.unlogged"]["observed"]
    assert found["table public.cursors"]["status"] == "left out"
    assert "refcursor (c)" in found["table public.cursors"]["observed"]
    assert found["table public.twins"]["status"] == "left out"
    assert "id, ID" in found["table public.twins"]["observed"]
    assert "twice" in found["table public.made"]["observed"]
    limits = found["values beyond silver's types"]
    assert limits["status"] == "note"
    assert "matrix_refused" in limits["observed"] and "ops.quarantine" in limits["observed"]
    assert "infinity" in limits["observed"] and "NaN" in limits["observed"]


def test_a_table_that_is_left_out_is_told_of_in_the_lake_and_in_status(stack: Stack) -> None:
    found = until(
        lambda: stack.query(
            "SELECT outcome, detail FROM ops.schema_changes WHERE table_name = 'twins'"
        ),
        within_s=SOON_S,
        what="the table that is left out",
        every_s=1,
    )
    told = "columns whose names differ in case only (id, ID)"
    assert found == [("left_out", f"public.twins: {told}")]
    assert f"public.twins is left out: {told}" in stack.run("status").stderr


def test_every_value_of_every_type_comes_back_as_the_matrix_says(stack: Stack) -> None:
    with stack.source() as source:
        types = known(source)
        count = stream(source, "matrix", types)
        source.execute("UPDATE matrix SET touched = 1")
        stream(source, "matrix_bag", types)
        source.execute("UPDATE matrix_bag SET id = id + 10000 WHERE id > %s", [UPDATED])
    rows = {row["table"]: row for row in stack.verify("matrix", "matrix_bag")}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "matrix": "equal",
        "matrix_bag": "equal",
    }
    assert int(rows["matrix"]["rows"]) == 3 * count
    compare(stack, "matrix", types)


def test_large_values_that_an_update_leaves_out_stay_of_every_type(stack: Stack) -> None:
    with stack.source() as source:
        names = ", ".join(f"l{number}" for number in range(len(large_values(source))))
        # A row whose insert and update are far apart, a row that has both in one batch, and a new key.
        source.execute(
            f"INSERT INTO matrix_large (id, n, {names}) SELECT id + 2, n, {names} FROM matrix_large"
        )
        source.execute("UPDATE matrix_large SET n = 1")
        source.execute("UPDATE matrix_large SET id = 30 WHERE id = 3")
    stack.verify("matrix_large")
    with stack.source() as source:
        source.execute("UPDATE matrix_large SET n = 2")
    [verdict] = stack.verify("matrix_large")
    assert (verdict["verdict"], int(verdict["rows"])) == ("equal", 4)


def compare(stack: Stack, table: str, types: Sequence[Type]) -> None:
    """Silver's types, Trino's types and Trino's values must be those that the matrix declares."""
    schema = Lakehouse(stack.settings).silver(table).schema()
    silver = {field.name: delta_type(field.type) for field in schema.fields}
    assert {each.ddl: silver[each.column] for each in types} == {t.ddl: t.silver for t in types}
    shown = dict(row[:2] for row in stack.query(f"SHOW COLUMNS FROM silver.{table}"))
    assert {each.ddl: shown[each.column] for each in types} == {t.ddl: t.trino for t in types}
    names = ", ".join(each.column for each in types)
    found = stack.query(f"SELECT id, {names} FROM silver.{table}")
    wrong = []
    with stack.source() as source:
        expected = expected_rows(source, table, types)
    for number, *values in found:
        for each, value, wanted in zip(types, values, expected[number], strict=True):
            if comparable(value) != comparable(wanted):
                wrong.append(f"{each.ddl}, row {number}: {value!r}, not {wanted!r}"[:200])
    assert wrong == []
    assert {row[0] for row in found} == set(expected)


def expected_rows(source: Source, table: str, types: Sequence[Type]) -> dict[int, list[Any]]:
    for setting in SESSION_SETTINGS:
        source.execute(setting)
    # A cast to text may do more than print (inet, char(n)); concat() prints.
    names = ", ".join(
        f"CASE WHEN {each.column}::text IS NOT NULL THEN concat({each.column}) END"
        for each in types
    )
    expected = {}
    for number, *printed in source.execute(f"SELECT id, {names} FROM {table}"):
        place = number % INSERTED - 1
        expected[number] = [
            text if text is None or each.held[place].trino is AS_TEXT else each.held[place].trino
            for each, text in zip(types, printed, strict=True)
        ]
    return expected


def delta_type(given: Any) -> str:
    if type(given).__name__ == "ArrayType":
        return f"array<{delta_type(given.element_type)}>"
    return str(given.type)


def comparable(value: Any) -> Any:
    """Turn a value into one that equals another only if both are identical, also NaN and -0."""
    if isinstance(value, float):
        return "NaN" if value != value else struct.pack(">d", value)
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return ("with zone", value.timestamp(), value.microsecond)
    return value


def test_values_beyond_silver_wait_in_quarantine_with_their_text(stack: Stack) -> None:
    with stack.source() as source:
        types = known(source)
        stream(source, "matrix_refused", types)
        given = refusals(types)
        expected = {}
        for number, (each, text, snapshot_only) in enumerate(given, start=1):
            expected[number] = (each, text)
            if not snapshot_only:
                expected[INSERTED + number] = expected[UPDATED + number] = (each, text)
        found = until(
            lambda: stack.query(
                'SELECT key, reason, "partition", "offset" FROM ops.quarantine '
                "WHERE table_name = 'matrix_refused' AND status = 'open'"
            ),
            # Rows that were inserted and deleted are also in it, until silver has seen their deletion.
            lambda rows: {json.loads(row[0])["id"] for row in rows} == set(expected),
            within_s=SOON_S,
            what="the rows in quarantine",
            every_s=1,
        )
        lake = Lakehouse(stack.settings).lake
        events = {place_in(row): row["raw_value"] for row in entries_of(lake, "matrix_refused")}
        topic = topic_of(stack.settings.topic_prefix, "public", "matrix_refused")
        for key, reason, partition, offset in found:
            each, text = expected[json.loads(key)["id"]]
            assert f"column {each.column} (" in reason
            raw = events[Place(topic, partition, offset)]
            kept = json.loads(raw)["after"][each.column]
            if each.ddl == "date" or each.ddl.endswith("[]"):
                assert text in kept.split(" or ")  # in the source's own text
            elif "infinity" in text:
                assert f'"{text}"' in reason
            else:
                assert kept is not None
        # The next valid event repairs the row: here, its deletion.
        source.execute("DELETE FROM matrix_refused WHERE id = ANY(%s)", [list(expected)])
    stack.verify("matrix_refused")


def test_values_beyond_silver_are_text_where_the_contract_file_says_so(stack: Stack) -> None:
    with stack.source() as source:
        types = by_choice(known(source))
        count = stream(source, "matrix_texts", types)
    [verdict] = stack.verify("matrix_texts")  # compares each with the source's ::text
    assert (verdict["verdict"], int(verdict["rows"])) == ("equal", 3 * count)
    asked = "SELECT key, reason FROM ops.quarantine WHERE table_name = 'matrix_texts'"
    assert stack.query(asked) == []
    shown = dict(row[:2] for row in stack.query("SHOW COLUMNS FROM silver.matrix_texts"))
    assert {shown[each.column] for each in types} == {"varchar"}


def test_odd_names_and_shapes_hold_the_sources_rows(stack: Stack) -> None:
    tables = odd_tables()
    with stack.source() as source:
        for table in tables:
            table.change(source)
        for statement in CHANGES:
            source.execute(statement)
    stack.verify()
    with stack.source() as source:
        for table in tables:
            found = stack.query(f'SELECT * FROM silver."{table.silver}"')
            rows = sorted((row[: len(table.columns)] for row in found), key=str)
            assert rows == table.rows(source), table.name
    assert stack.query("SELECT * FROM silver.parent ORDER BY 1")[0][:2] == (1, "a!")
    shown = [name for name, *_ in stack.query("SHOW COLUMNS FROM silver.made")]
    assert shown[:2] == ["id", "n"] and "twice" not in shown
    assert {"ünï__täble", "ünïcode_täble", "заказы"} <= {
        name for (name,) in stack.query("SHOW TABLES FROM silver")
    }
    shown = [name for name, *_ in stack.query('SHOW COLUMNS FROM silver."ünï__täble"')]
    assert shown[:4] == ["id", "größe_in_m", "имя", "smile\N{GRINNING FACE}"]


@pytest.mark.parametrize("name", ["ünï.täble", pytest.param("ünï__täble", marks=pytest.mark.slow)])
def test_commands_take_the_sources_name_and_silvers(stack: Stack, name: str) -> None:
    with stack.source() as source:  # the first snapshot may have come after the earlier changes
        source.execute('UPDATE "ünï"."täble" SET "имя" = "имя" WHERE id = 11')
    [verdict] = stack.verify(name)
    assert (verdict["table"], verdict["verdict"]) == ("ünï__täble", "equal")
    found = stack.answer("verify", name, "--bronze")
    assert {(row["verdict"], row["topic"].rpartition(".")[2]) for row in found} == {
        ("complete", "t_ble")
    }
    versions = stack.answer("trace", name, "11")
    assert [one["event"] for one in versions][-2:] == ["update", "now"]
    assert versions[-1]["row"]["имя"] == "text 11"
    [row] = stack.answer("rebuild", name, timeout_s=300)
    assert row["table"] == "ünï__täble"
    assert stack.run("quarantine", "list", name, "--format", "json").stdout.strip() == "[]"
    [verdict] = stack.verify(name)
    assert verdict["verdict"] == "equal"


def test_a_new_label_of_an_enum_moves_no_value_behind_a_generated_column(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("INSERT INTO labelled (id, feels, n, v) VALUES (2, 'sad', 20, 200)")
        source.execute("ALTER TYPE mood ADD VALUE 'new'")
        # At the first of these the connector reads the table's columns from the catalog, including
        # generated ones, and uses their names for the following rows.
        source.execute("INSERT INTO labelled (id, feels, n, v) VALUES (3, 'new', 30, 300)")
        source.execute("INSERT INTO labelled (id, feels, n) VALUES (4, 'new', 40)")
        source.execute("UPDATE labelled SET n = n + 1 WHERE id IN (1, 2)")
        source.execute("DELETE FROM labelled WHERE id = 1")
    [verdict] = stack.verify("labelled")
    assert (verdict["verdict"], int(verdict["rows"])) == ("equal", 3)


def test_twenty_megabytes_arrive_by_snapshot_insert_and_update(stack: Stack) -> None:
    with stack.source() as source:
        body = noise(source)
        source.execute("INSERT INTO large VALUES (3, 0, %s, 'x'), (4, 0, %s, 'gone')", [body, b""])
        source.execute("UPDATE large SET n = 1")  # does not change the large values
        source.execute("UPDATE large SET b = %s, t = repeat('t', 1000000) WHERE id = 1", [body])
        source.execute("DELETE FROM large WHERE id = 4")
        [expected] = source.execute("SELECT md5(b) FROM large WHERE id = 2").fetchall()
    [verdict] = stack.verify("large", timeout_s=600)
    assert (verdict["verdict"], int(verdict["rows"])) == ("equal", 3)
    found = stack.query(
        "SELECT id, n, lower(to_hex(md5(b))), length(t) FROM silver.large ORDER BY id"
    )
    assert found == [(1, 1, *expected, 1_000_000), (2, 1, *expected, None), (3, 1, *expected, 1)]


@pytest.mark.slow  # a minute; e2e/test_verify.py counts all of bronze
def test_bronze_of_all_of_it_is_whole(stack: Stack) -> None:
    rows = stack.answer("verify", "--bronze", timeout_s=300)
    assert {row["verdict"] for row in rows} == {"complete"}
