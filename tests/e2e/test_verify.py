"""`verify` on the whole chain finds and names each planted difference, and no others."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pyarrow.fs as pa_fs
import pytest
from deltalake import write_deltalake

from app.lake.lakehouse import Lakehouse
from app.lake.patience import Waits
from app.verify.table_verification import Verifier
from app.verify.verify_state import RunState
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 120.0


# Name → its columns, and a query for its rows before the tests.
TABLES = {
    "sabotaged": (
        "id int PRIMARY KEY, title text, price numeric(8,2)",
        "SELECT i, 'film ' || i, i FROM generate_series(1, 500) i",
    ),
    "exchanged": (
        "id int PRIMARY KEY, amount int",
        "SELECT i, i * 10 FROM generate_series(1, 100) i",
    ),
    "counted": (
        "word text, n float8",
        "SELECT 'a', 'NaN'::float8 FROM generate_series(1, 40) "
        "UNION ALL SELECT NULL, '-0'::float8 FROM generate_series(1, 3)",
    ),
    "sorted_words": (
        "word text COLLATION, n int, note text, PRIMARY KEY (word, n)",
        "SELECT chr(64 + i % 60) || CASE WHEN i % 3 = 0 THEN 'Ä' WHEN i % 3 = 1 THEN '_' ELSE '' END"
        " || repeat('x', i % 50), i, NULL FROM generate_series(1, 900) i",
    ),
    "sorted_uuids": (
        "id uuid PRIMARY KEY, n bigint",
        "SELECT gen_random_uuid(), i FROM generate_series(1, 600) i",
    ),
    "sorted_numbers": (
        "tenant smallint, id bigint, PRIMARY KEY (tenant, id)",
        "SELECT i % 7 - 3, i FROM generate_series(1, 800) i",
    ),
    "extremes": (
        "id int PRIMARY KEY, a float8, b float4, c bytea, d numeric, "
        "e timestamp, f timestamptz, g date, h text[], i int[], j jsonb, k interval, l bytea[]",
        "VALUES (1, 'NaN', 'NaN', '', 'NaN', '0001-01-01', '9999-12-31 23:59:59.999999+00', "
        "'0001-01-01', '{}', '{NULL}', 'null', '1 mon -3 days', '{}'),"
        "(2, '-0', '-0', '\\x00', '-0.000', NULL, NULL, NULL, '{\"\",NULL,\"a,b\"}', '{}', "
        "'{\"a\":1}', '-00:00:00.000001', '{\"\\\\x00ff\"}'),"
        "(3, 'Infinity', '-Infinity', NULL, 1e-300, '2026-01-01 00:00:00.1', "
        "'2026-01-01 00:00:00.10+00', '9999-12-31', NULL, NULL, NULL, NULL, NULL),"
        "(4, 5e-324, 1.17549435e-38, '\\xff', 1e300, NULL, NULL, NULL, NULL, NULL, '[]', "
        "'0', NULL)",
    ),
    "moving": ("id int PRIMARY KEY, n int", "SELECT i, 0 FROM generate_series(1, 2000) i"),
    "resumed": ("id int PRIMARY KEY, n int", "SELECT i, 0 FROM generate_series(1, 3000) i"),
    "archived": ("id int PRIMARY KEY, v text", "SELECT i, 'a' FROM generate_series(1, 20) i"),
}


@pytest.fixture(scope="module", autouse=True)
def tables(stack: Stack) -> None:
    """The tests' tables, with rows in silver.

    They are created together, because each separate table would need a restart of the connector.
    """
    with stack.source() as source, source.transaction():
        row = source.execute(
            "SELECT collname FROM pg_collation WHERE collname IN ('en-x-icu', 'en_US.utf8', "
            "'de-x-icu') ORDER BY 1 LIMIT 1"
        ).fetchone()
        collation = f'COLLATE "{row[0]}"' if row else ""
        for name, (columns, rows) in TABLES.items():
            source.execute(f"CREATE TABLE {name} ({columns.replace('COLLATION', collation)})")
            if "PRIMARY KEY" not in columns:
                source.execute(f"ALTER TABLE {name} REPLICA IDENTITY FULL")
            source.execute(f"INSERT INTO {name} {rows}")
        counts = {
            name: source.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in TABLES
        }
    for name, found in counts.items():
        await_rows(stack, name, found)


def await_rows(stack: Stack, name: str, rows: int) -> None:
    until(
        lambda: stack.query(f"SELECT count(*) FROM silver.{name}")[0][0],
        lambda count: count == rows,
        within_s=SOON_S,
        what=f"{rows} rows of {name} in Trino",
    )


def verified(stack: Stack, *arguments: str, expect: int = 0) -> tuple[list[dict[str, Any]], str]:
    """The rows that `verify` prints, and its stderr."""
    ended = stack.run("verify", *arguments, "--format", "json", expect=expect, timeout_s=300)
    return json.loads(ended.stdout), ended.stderr


def test_a_wrong_row_planted_in_silver_is_found_and_named(stack: Stack) -> None:
    assert verified(stack, "sabotaged")[0][0]["verdict"] == "equal"
    silver = Lakehouse(stack.settings).silver("sabotaged")
    silver.update(predicate="id = 123", updates={"title": "'forged'", "price": "0.5"})
    silver.delete(predicate="id = 7")
    [verdict], told = verified(stack, "--table", "sabotaged", "--part-rows", "100", expect=1)
    assert (verdict["verdict"], verdict["rows"]) == ("differs", 500)
    assert (verdict["missing"], verdict["extra"], verdict["differing"]) == (1, 0, 1)
    assert (
        "differs: id=123: title is 'film 123' in the source, 'forged' in silver; "
        "price is '123.00' in the source, '0.50' in silver"
    ) in told
    assert "missing: id=7" in told


def test_two_values_exchanged_between_rows_are_found_though_all_sums_agree(stack: Stack) -> None:
    silver = Lakehouse(stack.settings).silver("exchanged")
    silver.update(
        predicate="id in (4, 9)", updates={"amount": "case when id = 4 then 90 else 40 end"}
    )
    [verdict], told = verified(stack, "exchanged", expect=1)
    assert verdict["differing"] == 2
    assert "id=4: amount is '40' in the source, '90' in silver" in told
    assert "id=9: amount is '90' in the source, '40' in silver" in told


def test_a_row_too_many_in_a_table_without_a_key_is_found(stack: Stack) -> None:
    assert verified(stack, "counted")[0][0]["verdict"] == "equal"
    silver = Lakehouse(stack.settings).silver("counted")
    rows = silver.to_pyarrow_dataset().to_table()
    one_more = rows.slice(rows["word"].to_pylist().index("a"), 1)
    write_deltalake(silver, one_more, mode="append")
    [verdict], told = verified(stack, "counted", expect=1)
    assert (verdict["missing"], verdict["extra"]) == (0, 1)
    assert "extra: word=a, n=NaN" in told


def test_keys_of_every_order_are_cut_alike_on_both_sides(stack: Stack) -> None:
    names = ("sorted_words", "sorted_uuids", "sorted_numbers")
    found, _ = verified(stack, *names, "--part-rows", "100")
    assert {row["table"]: row["rows"] for row in found} == {
        "sorted_words": 900,
        "sorted_uuids": 600,
        "sorted_numbers": 800,
    }
    sampled, _ = verified(stack, *names, "--sample", "10%")
    assert {row["verdict"] for row in sampled} == {"equal"}
    assert [row for row in sampled if not 0 < row["checked_pct"] < 50] == []


def test_extremes_of_every_type_that_is_carried_are_equal(stack: Stack) -> None:
    assert verified(stack, "extremes")[0][0]["verdict"] == "equal"


def test_verify_stays_exact_while_rows_move_between_parts(stack: Stack) -> None:
    process = stack.start("verify", "moving", "--part-rows", "200", "--format", "json")
    with stack.source() as source:
        for number in count(1):
            # About twenty statements a second, with which silver can keep up.
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                break
            source.execute("UPDATE moving SET n = n + 1 WHERE id %% 97 = %s", [number % 97])
            source.execute("UPDATE moving SET id = -id WHERE id %% 89 = %s", [number % 89])
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)[0]["rows"] == 2000


def test_an_interrupted_verify_goes_on_where_it_stopped(stack: Stack) -> None:
    state = Path(stack.home) / "verify" / "state.json"
    process = stack.start("verify", "resumed", "--part-rows", "10")

    def parts_done() -> int:
        found = RunState.model_validate_json(state.read_text())
        return len(found.done["resumed"].equal)

    until(parts_done, lambda n: n >= 3, within_s=SOON_S, what="a few parts done", every_s=0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    # Parts that were equal at their instant are not read again. A row that is forged in one
    # now is not found, which shows this.
    found = RunState.model_validate_json(state.read_text()).done["resumed"]
    done, first = len(found.equal), found.equal[0]
    assert done < len(found.ranges) and first.high is not None
    silver = Lakehouse(stack.settings).silver("resumed")
    silver.update(predicate=f"id = {int(first.high) - 1}", updates={"n": "5"})
    [verdict], told = verified(stack, "--resume")
    assert (verdict["table"], verdict["rows"]) == ("resumed", 3000)
    assert "continuing an interrupted run" in told
    assert not state.exists()
    [again], _ = verified(stack, "resumed", expect=1)
    assert again["differing"] == 1


def test_what_cannot_be_found_out_is_neither_equal_nor_different(stack: Stack) -> None:
    ended = stack.run("verify", "no_such_table", expect=3)
    assert "not captured: no_such_table" in ended.stderr and "hint:" in ended.stderr
    assert "Traceback" not in ended.stderr and ended.stdout == ""


def test_bronze_is_whole_and_a_dropped_object_is_named(stack: Stack) -> None:
    topic = "hw.public.archived"
    files = Lakehouse(stack.settings).bronze_files()

    def objects() -> list[str]:
        selector = pa_fs.FileSelector(topic, recursive=True, allow_not_found=True)
        return sorted(i.path for i in files.get_file_info(selector) if i.path.endswith(".jsonl.gz"))

    known = until(objects, within_s=SOON_S, what="the first object")
    with stack.source() as source:
        for _ in range(3):
            # Later events are in another object.
            source.execute("UPDATE archived SET v = v || 'b' WHERE id <= 5")
            before = len(known)
            known = until(
                objects,
                lambda found, before=before: len(found) > before,  # type: ignore[misc]
                within_s=SOON_S,
                what="another object",
            )
    [row], _ = verified(stack, "--bronze", "archived")
    assert (row["topic"], row["verdict"], row["missing"]) == (topic, "complete", 0)
    assert row["records"] == row["in_kafka"] >= 35

    dropped = objects()[1]
    body = files.open_input_stream(dropped, compression=None).read()
    files.delete_file(dropped)
    [row], told = verified(stack, "--bronze", "archived", expect=1)
    assert row["verdict"] == "broken" and row["missing"] >= 5
    first = int(dropped.rsplit("/", 1)[1].split(".")[0])
    assert "missing: offset" in told and str(first) in told
    assert objects()[0] in told and objects()[1] in told
    refused = stack.run("rebuild", "archived", expect=1).stderr
    assert "bronze lacks records of hw.public.archived that Kafka has" in refused
    assert f"partition 0: offsets {first} to" in refused

    with files.open_output_stream(dropped, compression=None) as stream:
        stream.write(body)
    copy = dropped.replace(f"{first:020}", f"{first + 1:020}")
    with files.open_output_stream(copy, compression=None) as stream:
        stream.write(body)
    [row], told = verified(stack, "--bronze", "archived", expect=1)
    assert row["repeated"] >= 5 and "repeat:" in told and copy in told
    files.delete_file(copy)


def test_all_of_bronze_is_whole(stack: Stack) -> None:
    found, told = verified(stack, "--bronze")
    assert {"hw.public.movies", "hw.public.orders"} <= {row["topic"] for row in found}
    assert [row for row in found if row["verdict"] != "complete"] == [], told


def test_a_continuous_round_is_a_table_in_trino(stack: Stack) -> None:
    arguments = ("--continuous", "--rounds", "1", "--cpu-share", "100")
    stack.run("verify", "genres", "movies", *arguments, timeout_s=300)
    rows = until(
        lambda: stack.query(
            "SELECT table_name, verdict, wrong_rows FROM ops.verification_status ORDER BY 1"
        ),
        within_s=SOON_S,
        what="the round's verdicts in Trino",
    )
    assert rows == [("genres", "equal", 0), ("movies", "equal", 0)]
    stack.run("verify", "genres", *arguments, timeout_s=300)
    until(
        lambda: stack.query("SELECT max(round) FROM ops.verification")[0][0],
        lambda number: number == 2,
        within_s=SOON_S,
        what="the second round in Trino",
    )


def test_a_captured_table_without_a_row_is_in_trino_and_is_compared(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("CREATE TABLE never_filled (id int PRIMARY KEY, note text)")
    until(
        lambda: stack.query(
            "SELECT table_name FROM lake.information_schema.tables "
            "WHERE table_schema = 'silver' AND table_name = 'never_filled'"
        ),
        within_s=SOON_S,
        what="the empty table in Trino",
    )
    assert stack.query("SELECT id, note FROM silver.never_filled") == []
    freshness = "SELECT state, complete_lsn FROM ops.freshness WHERE table_name = 'never_filled'"
    told = until(lambda: stack.query(freshness), within_s=SOON_S, what="its freshness")
    assert told == [("running", None)]
    [row], _ = verified(stack, "never_filled")
    assert (row["verdict"], row["rows"], row["delta_version"] is None) == ("equal", 0, False)
    with stack.source() as source:
        source.execute("TRUNCATE never_filled")
        source.execute("INSERT INTO never_filled VALUES (1, 'first')")
    await_rows(stack, "never_filled", 1)
    [row], _ = verified(stack, "never_filled")
    assert (row["verdict"], row["rows"]) == ("equal", 1)


def test_rows_whose_key_silver_cannot_hold_are_explained(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("CREATE TABLE at_infinity (at timestamptz, n numeric, PRIMARY KEY (at, n))")
        source.execute("INSERT INTO at_infinity VALUES ('2026-01-01', 1), ('infinity', 2)")
        source.execute("CREATE TABLE bag_at_infinity (at date)")
        source.execute("ALTER TABLE bag_at_infinity REPLICA IDENTITY FULL")
        source.execute("INSERT INTO bag_at_infinity VALUES ('2026-01-01'), ('infinity')")
    for name in ("at_infinity", "bag_at_infinity"):
        await_rows(stack, name, 1)
    with stack.source() as source:  # also through the stream
        source.execute("INSERT INTO at_infinity VALUES ('0044-03-15 12:00:00+00 BC', 'NaN')")
        source.execute("INSERT INTO bag_at_infinity VALUES ('-infinity'), ('infinity')")
    try:
        rows, told = verified(stack, "at_infinity", "bag_at_infinity", "--allow-quarantined")
        found = {r["table"]: (r["verdict"], r["explained"], r["missing"]) for r in rows}
        assert found == {
            "at_infinity": ("explained", 2, 0),
            "bag_at_infinity": ("explained", 3, 0),
        }
        assert "at_infinity: explained by quarantine: at=infinity, n=2" in told
    finally:
        with stack.source() as source:
            source.execute("DROP TABLE at_infinity, bag_at_infinity")


def test_a_table_that_is_not_captured_any_more_is_named_and_one_that_was_dropped_too(
    stack: Stack,
) -> None:
    # Silver has even empty tables.
    with stack.source() as source:
        source.execute("CREATE TABLE withdrawn (id int PRIMARY KEY)")
        source.execute("CREATE TABLE dropped (id int PRIMARY KEY)")
    for name in ("withdrawn", "dropped"):
        until(
            lambda name=name: Lakehouse(stack.settings).lake.exists(f"silver/{name}"),  # type: ignore[misc]
            within_s=SOON_S,
            what=f"{name} in silver",
        )
    with stack.source() as source:
        source.execute("DROP TABLE dropped")
        # `capture` does not capture a table without a key again.
        source.execute("ALTER TABLE withdrawn DROP CONSTRAINT withdrawn_pkey")
        source.execute("ALTER PUBLICATION headwater DROP TABLE withdrawn")
    try:
        rows, told = verified(stack, "genres", "withdrawn", "dropped", expect=1)
        assert {row["table"]: row["verdict"] for row in rows} == {
            "genres": "equal", "withdrawn": "not_captured", "dropped": "dropped",
        }  # fmt: skip
        assert "withdrawn: the source has the table, but it is not captured any more" in told
        verified(stack, "genres", "dropped")
        rows, told = verified(stack, "dropped", expect=3)
        assert [row["verdict"] for row in rows] == ["dropped"]
        assert "nothing was compared" in told
    finally:
        with stack.source() as source:
            source.execute("DROP TABLE withdrawn")


def test_a_verify_that_waits_for_silver_names_the_table_since_when_and_why(stack: Stack) -> None:
    pid = stack.observed("silver").pid
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGSTOP)
    try:
        with stack.source() as source:
            source.execute("INSERT INTO moving SELECT i, 7 FROM generate_series(5001, 5005) i")
        until(
            lambda: stack.observed("silver").state,
            lambda state: state == "unresponsive",
            within_s=SOON_S,
            what="the supervisor sees that silver hangs",
        )
        ended = stack.run("verify", "moving", "--wait", "16", expect=3, timeout_s=300)
        checked = stack.run("status", "--check", expect=4)
    finally:
        for one in family:
            if one.is_running():  # the supervisor ends it after a minute
                one.send_signal(signal.SIGCONT)
    assert "silver: unresponsive: " in checked.stderr and checked.stdout == ""
    assert ended.stdout == ""
    waits = re.findall(r"verify waits for silver to apply moving \((\d+) offsets\)", ended.stderr)
    assert len(waits) >= 2 and int(waits[0]) >= 5
    assert re.search(r"silver is unresponsive: .*; no step nearer for \d+ s", ended.stderr)
    assert re.search(r"silver has not come nearer for \d+ s\n  detail: it has not", ended.stderr)
    assert "hint: `./headwater status silver`" in ended.stderr
    assert verified(stack, "moving")[0][0]["verdict"] == "equal"


def test_where_nothing_is_captured_every_table_of_silver_is_named(stack: Stack) -> None:
    settings = stack.settings
    object.__setattr__(settings.profile, "publication_name", "no_such_publication")
    found = {v.table: v.word for v in Verifier(settings, Waits()).verify([])}
    assert (found["movies"], set(found.values()) <= {"not_captured", "dropped"}) == (
        "not_captured",
        True,
    )
