"""The output of `preflight` on a clean and on a hostile source, as text and as SQL that psql runs."""

from __future__ import annotations

import csv
import io
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from tests.support.postgres import fresh_database
from tests.support.postgres_server import postgres_server
from tests.support.stack import ROOT, Stack, fresh_stack

COLUMNS = 80
HOSTILE = """
CREATE TABLE orders (id int PRIMARY KEY);
CREATE TABLE notes (word text);
CREATE TABLE "Odd; Näme" (id int PRIMARY KEY, "a b" text);
CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
CREATE TABLE hidden (id int PRIMARY KEY);
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
CREATE TABLE twins (id int PRIMARY KEY, word text, "Word" text);
CREATE TABLE silent (id int PRIMARY KEY, at timestamptz, span interval, price numeric);
ALTER TABLE silent REPLICA IDENTITY NOTHING;
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE SCHEMA "other one";
CREATE TABLE "other one".plain (id int PRIMARY KEY, place point);
DO $$ BEGIN FOR n IN 1..12 LOOP EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY)', n);
END LOOP; END $$;
"""


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    """The superuser's DSN of an unprepared database with tables that are hard to capture."""
    with postgres_server(15) as server, fresh_database(server) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(HOSTILE.encode())
        yield dsn


@pytest.fixture(scope="module")
def home() -> Iterator[Stack]:
    with fresh_stack() as stack:
        yield stack


def in_terminal(home: Stack, *arguments: str) -> str:
    """The command's output on a terminal of 80 columns."""
    master, slave = pty.openpty()
    environment = {**home.environment, "COLUMNS": str(COLUMNS), "LINES": "40"}
    with subprocess.Popen(
        [sys.executable, "-m", "app", *arguments], cwd=ROOT, env=environment,
        stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(slave)
        said = b""
        while True:
            try:
                read = os.read(master, 65_536)
            except OSError:  # the other end is closed
                break
            if not read:
                break
            said += read
        process.wait(120)
    os.close(master)
    return said.decode().replace("\r\n", "\n")


def run_in_psql(dsn: str, block: str) -> None:
    program = shutil.which("psql")
    if program is None:  # the embedded server lacks psql
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(block.encode())
        return
    ended = subprocess.run(
        [program, "-X", "-q", "-v", "ON_ERROR_STOP=1", dsn],
        input=block, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_a_source_that_is_not_prepared_is_listed_then_its_sql_then_what_it_means(
    home: Stack, source: str
) -> None:
    said = home.run("preflight", "--source", source, expect=1).stdout
    findings, _, rest = said.partition("\n\nSET lock_timeout")
    lines = findings.splitlines()
    assert [line[:10].strip() for line in lines if line[:1] != " "] == sorted(
        (line[:10].strip() for line in lines if line[:1] != " "),
        key=["missing", "left out", "note", "ok"].index,
    )
    assert max(map(len, said.splitlines())) < 420  # nothing is padded
    assert "many_9" not in findings and "tables: not in the publication" in findings
    assert "RAISE WARNING" not in said and "event trigger" in said  # no function bodies
    assert said.rstrip().splitlines()[-1].startswith("Statements that are commented out")
    assert rest.count("ADD TABLE") == 19

    narrow = in_terminal(home, "preflight", "--source", source)
    listed = narrow.partition("\nSET lock_timeout")[0]
    assert "missing" in listed
    assert [line for line in listed.splitlines() if len(line) > COLUMNS] == []


def test_csv_and_json_have_every_finding_whole(home: Stack, source: str) -> None:
    found = home.checks("--source", source, expect=1)
    assert list(found["table public.notes"]) == ["check", "status", "observed", "mend", "todo"]
    assert "RAISE WARNING" in found["definitions"]["mend"]
    ended = home.run("preflight", "--source", source, "--format", "csv", expect=1)
    table = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert {row["check"] for row in table} == set(found)


def test_after_psql_ran_the_printed_sql_preflight_is_clean(home: Stack, source: str) -> None:
    before = home.checks("--source", source, expect=1)
    assert before["role headwater_capture"]["status"] == "missing"
    printed = home.run("preflight", "--source", source, "--sql")
    assert home.settings.secret("capture_password") not in printed.stdout
    run_in_psql(source, printed.stdout)
    after = home.checks("--source", source, expect=0)
    assert {row["status"] for row in after.values()} <= {"ok", "note", "left out"}
    never = {name for name, row in after.items() if row["status"] == "left out"}
    assert never == {"table public.scratch", "table public.twins"}
    assert all(row["mend"] == "" for name, row in after.items() if name in never)
    assert after["definitions"]["status"] == "ok"
    # Changes by psql are recorded like those by `--apply`.
    with psycopg.connect(source) as connection:
        known = connection.execute(
            "SELECT table_name, was FROM headwater.replica_identities ORDER BY 1"
        ).fetchall()
    assert known == [("notes", "d"), ("silent", "n")]
    again = home.run("preflight", "--source", source, "--sql")
    assert "ALTER TABLE" not in again.stdout and "CREATE" not in again.stdout
    said = home.run("preflight", "--source", source).stdout
    assert "tables can be captured as they are" in said
