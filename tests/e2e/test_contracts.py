"""Contracts and quarantine on the whole chain, with the commands that users type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.catalog.lake_catalog import identifier
from app.lake.lakehouse import Lakehouse
from tests.support.entries import entries_of
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 120.0
TABLES = ("kiosk", "booth", "stall", "guests", "patients", "members")


@pytest.fixture
def folder(stack: Stack) -> Iterator[Path]:
    """The stack's own folder of contract files, for these tests' tables."""
    with stack.contract_files(TABLES) as folder:
        yield folder


def await_rows(stack: Stack, table: str, wanted: list[tuple[Any, ...]]) -> None:
    until(
        lambda: sorted(stack.query(f"SELECT id, v, big FROM silver.{table}")),
        lambda rows: rows == wanted,
        within_s=SOON_S,
        what=f"the rows of {table}",
        every_s=0.5,
    )


def quarantined(stack: Stack, table: str, count: int) -> list[dict[str, Any]]:
    return until(
        lambda: stack.answer("quarantine", "list", table),
        lambda rows: len(rows) == count,
        within_s=SOON_S,
        what=f"{count} entries of {table}",
        every_s=0.5,
    )


def test_broken_rows_wait_in_quarantine_and_a_replay_keeps_the_order(
    stack: Stack, folder: Path
) -> None:
    file = folder / "public.kiosk.toml"
    file.write_text("[columns.v]\nmin = 1\n[columns.big]\nvalues = ['a']\naction = 'warn'\n")
    with stack.source() as source:
        source.execute("CREATE TABLE kiosk (id int PRIMARY KEY, v int, big text)")
        source.execute("INSERT INTO kiosk VALUES (1, 1, 'a'), (2, 2, 'b'), (3, -3, 'c')")
        await_rows(stack, "kiosk", [(1, 1, "a"), (2, 2, "b")])
        source.execute("UPDATE kiosk SET v = -1 WHERE id = 1")
        source.execute("UPDATE kiosk SET v = -2 WHERE id = 2")
        quarantined(stack, "kiosk", 3)
        [verdict] = stack.answer("verify", "kiosk", expect=1)
        assert (verdict["verdict"], verdict["explained"]) == ("explained", 3)
        told = stack.run("verify", "kiosk", "--allow-quarantined").stderr
        assert "kiosk: explained by quarantine: id=1: v_range:" in told
        source.execute("DELETE FROM kiosk WHERE id = 2")
        [first, third] = sorted(quarantined(stack, "kiosk", 2), key=lambda row: row["key"])
        assert (first["rule"], first["key"]) == ("v_range", '{"id":1}')
        shown = stack.answer("quarantine", "show", third["entry"])
        assert json.loads(shown["raw_value"])["after"] == {"id": 3, "v": -3, "big": "c"}
        await_rows(stack, "kiosk", [(1, 1, "a")])
        file.write_text("[columns.v]\nmin = -9\n")
        until(
            lambda: stack.answer("quarantine", "replay", "kiosk", expect=None),
            lambda rows: {row["outcome"] for row in rows} == {"replayed"},
            within_s=SOON_S,
            what="a replay under the repaired contract",
        )
    await_rows(stack, "kiosk", [(1, -1, "a"), (3, -3, "c")])
    stack.verify("kiosk")
    counted = stack.query(
        "SELECT rule, action, sum(rows_broken) FROM ops.expectations "
        "WHERE table_name = 'kiosk' GROUP BY 1, 2 ORDER BY 1"
    )
    rules = [tuple(row[:2]) for row in counted]
    assert rules == [("big_values", "warn"), ("v_range", "quarantine")]
    assert counted[1][2] == 3


def test_fail_stops_one_table_until_its_contract_is_repaired(stack: Stack, folder: Path) -> None:
    file = folder / "public.booth.toml"
    file.write_text("[columns.v]\nmin = 1\naction = 'fail'\n")
    with stack.source() as source:
        source.execute("CREATE TABLE booth (id int PRIMARY KEY, v int, big text)")
        source.execute("CREATE TABLE stall (id int PRIMARY KEY, v int, big text)")
        source.execute("INSERT INTO booth VALUES (1, 1, 'a')")
        await_rows(stack, "booth", [(1, 1, "a")])
        source.execute("INSERT INTO booth VALUES (2, -2, 'b')")
        source.execute("INSERT INTO stall VALUES (1, 1, 'a')")
        await_rows(stack, "stall", [(1, 1, "a")])
        until(
            lambda: stack.query("SELECT state FROM ops.freshness WHERE table_name = 'booth'"),
            lambda rows: [tuple(row) for row in rows] == [("stopped",)],
            within_s=SOON_S,
            what="the stopped table in ops.freshness",
        )
        file.unlink()
        source.execute("INSERT INTO stall VALUES (2, 2, 'b')")
    await_rows(stack, "stall", [(1, 1, "a"), (2, 2, "b")])
    await_rows(stack, "booth", [(1, 1, "a"), (2, -2, "b")])
    stack.verify("booth", "stall")


def test_masked_values_never_reach_silver(stack: Stack, folder: Path) -> None:
    (folder / "public.guests.toml").write_text("[columns.big]\nmask = 'partial'\n")
    with stack.source() as source:
        source.execute("CREATE TABLE guests (id int PRIMARY KEY, v int, big text)")
        source.execute("INSERT INTO guests VALUES (1, 1, 'ada@example.com')")
    await_rows(stack, "guests", [(1, 1, "a***@example.com")])
    stack.verify("guests")


def described(stack: Stack) -> dict[str, str]:
    """Column → its comment in Trino; "" → the table's comment."""
    columns = {name: comment for name, _, _, comment in stack.query("DESCRIBE silver.members")}
    [[table]] = stack.query(
        "SELECT comment FROM system.metadata.table_comments WHERE catalog_name = 'lake' "
        "AND schema_name = 'silver' AND table_name = 'members'"
    )
    return {"": table, **columns}


@pytest.mark.slow  # over a minute; spark/test_described.py writes descriptions
def test_descriptions_of_the_source_and_of_a_contract_file_show_in_trino(
    stack: Stack, folder: Path
) -> None:
    with stack.source() as source:
        source.execute("CREATE TABLE members (id int PRIMARY KEY, v int, big text)")
        source.execute("COMMENT ON TABLE members IS 'Who may borrow'")
        source.execute("COMMENT ON COLUMN members.big IS 'Full name'")
        source.execute("INSERT INTO members VALUES (1, 1, 'Ada')")
        await_rows(stack, "members", [(1, 1, "Ada")])
        until(
            lambda: described(stack),
            lambda found: (found[""], found["big"]) == ("Who may borrow", "Full name"),
            within_s=SOON_S,
            what="the source's comments in Trino",
            every_s=0.5,
        )
        (folder / "public.members.toml").write_text(
            'description = "Members of the club"\nowner = "desk"\ntags = ["people"]\n'
            '[columns.big]\nclassification = "personal"\n'
            '[columns.v]\ndescription = "Visits"\nclassification = "internal"\n'
        )
        found = until(
            lambda: described(stack),
            lambda found: found[""] == "Members of the club" and found["v"] == "Visits",
            within_s=SOON_S,
            what="the file's descriptions in Trino",
            every_s=0.5,
        )
        assert found["big"] == "Full name", "the file does not describe it: the source does"
        source.execute("INSERT INTO members VALUES (2, 2, 'Bob')")
        await_rows(stack, "members", [(1, 1, "Ada"), (2, 2, "Bob")])
    until(
        lambda: stack.query(
            "SELECT column_name, type, description FROM ops.columns "
            "WHERE classification = 'personal' AND table_name = 'members'"
        ),
        lambda rows: [tuple(row) for row in rows] == [("big", "varchar", "Full name")],
        within_s=SOON_S,
        what="the personal column in ops.columns",
        every_s=0.5,
    )
    row = until(
        lambda: stack.query(
            'SELECT owner, tags, key, contract_version, classification, state, "rows" '
            "FROM ops.tables WHERE table_name = 'members'"
        ),
        lambda rows: bool(rows) and rows[0][6] == 2,
        within_s=2 * SOON_S,
        what="the table in ops.tables",
        every_s=1.0,
    )[0]
    assert tuple(row[:6]) == ("desk", ["people"], ["id"], 1, "personal", "running")
    assert "Members of the club" in stack.run("sql", "SHOW CREATE TABLE members").stdout
    stack.verify("members")


def everything_in(stack: Stack, schema: str) -> dict[str, str]:
    """Each table and view of a schema → all its rows in Trino."""
    names = [name for (name,) in stack.query(f"SHOW TABLES FROM {schema}")]
    return {name: str(stack.query(f"SELECT * FROM {schema}.{identifier(name)}")) for name in names}


def test_a_masked_columns_bad_values_are_in_quarantine_and_nowhere_in_trino(
    stack: Stack, folder: Path
) -> None:
    file = folder / "public.patients.toml"
    masks = "[columns.name]\nmask = 'hash'\n[columns.born]\nmask = 'redact'\n"
    masks += "[columns.big]\nmask = 'partial'\n"
    file.write_text(f"{masks}[columns.v]\nmin = 1\n")
    with stack.source() as source:
        source.execute("CREATE TABLE patients (name text PRIMARY KEY, v int, big text, born date)")
        source.execute(
            "INSERT INTO patients VALUES ('zaphod', -3, 'betelgeuse', '2001-02-03'),"
            "('trillian', 3, 'islington', '0044-03-15 BC'), ('marvin', 3, 'sirius', '1999-01-01')"
        )
        entries = quarantined(stack, "patients", 2)
        assert {row["key"] for row in entries} == {'{"name":"(masked)"}'}
        shown = everything_in(stack, "ops") | everything_in(stack, "silver")
        assert {"quarantine", "ledger", "expectations", "patients"} <= {*shown}
        secrets = (
            "zaphod",
            "betelgeuse",
            "2001-02-03",
            "trillian",
            "islington",
            "0044-03-15",
            "-0043-03",
        )
        found = [(name, s) for name, text in shown.items() for s in secrets if s in text]
        assert found == []
        # The stack's own key decrypts them, one entry and several.
        names = [row["entry"] for row in entries]
        one = stack.answer("quarantine", "show", names[0])
        several = stack.answer("quarantine", "show", *names)
        assert several[0] == one
        events = [json.loads(row["raw_value"])["after"] for row in several]
        assert {event["name"] for event in events} == {"zaphod", "trillian"}
        assert "betelgeuse" in stack.run("quarantine", "show", *names, "--format", "csv").stdout
        assert "betelgeuse" in stack.run("quarantine", "show", *names).stdout
        assert len(entries_of(Lakehouse(stack.settings).lake, "patients")) == 2
        file.write_text(masks)
        until(
            lambda: stack.answer("quarantine", "replay", "patients", expect=None),
            lambda rows: sorted(row["outcome"] for row in rows) == ["open", "replayed"],
            within_s=SOON_S,
            what="a replay of the row that broke the rule",
        )
        told = stack.run("verify", "patients", "--allow-quarantined").stderr
        assert "0044-03" not in told
        source.execute("DELETE FROM patients WHERE name = 'trillian'")
    stack.verify("patients")


def test_what_init_writes_for_the_whole_source_passes_the_check(stack: Stack, folder: Path) -> None:
    written = stack.answer("contract", "init")
    assert {"public.ratings", "public.payments"} <= {row["table"] for row in written}
    checked = stack.answer("contract", "check")
    assert {row["verdict"] for row in checked} == {"right", "warning"}
    assert "column `email` looks personal and is not classified" in {
        row["problem"] for row in checked
    }
    assert all(Path(row["file"]).parent == folder for row in checked)
    again = stack.answer("contract", "init", "ratings")
    assert [row["outcome"] for row in again] == ["kept"]
    # Of a table without changes, because the job also reads the files, and would stop a table with changes.
    (folder / "public.genres.toml").write_text("\n[columns.nam]\nnot_null = true\n")
    [wrong] = [
        row for row in stack.answer("contract", "check", expect=1) if row["verdict"] == "wrong"
    ]
    assert (wrong["line"], wrong["hint"]) == (2, "did you mean `name`?")


def test_an_exported_contract_has_the_sources_columns_and_the_files_words(
    stack: Stack, folder: Path
) -> None:
    (folder / "public.ratings.toml").write_text(
        'owner = "store"\n[columns.stars]\nclassification = "public"\n'
    )
    document = yaml.safe_load(stack.run("contract", "export", "ratings", "--format", "odcs").stdout)
    [table] = document["schema"]
    stars = next(column for column in table["properties"] if column["name"] == "stars")
    assert (document["team"], stars["classification"]) == ({"name": "store"}, "public")
    assert (stars["physicalType"], stars["required"]) == ("decimal(2,1)", True)
