"""Two databases feed one lake: rows of both arrive, tables of one name stay apart, neither waits for the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.connectors.worker import Worker
from app.environment.settings import of_source
from app.lake.lakehouse import Lakehouse
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

WITHIN_S = 180.0
SERVICES = ("--only", "capture", "silver", "tables")


def address(stack: Stack, database: str) -> str:
    options = psycopg.conninfo.conninfo_to_dict(stack.settings.source_dsn)
    user, password, host, port = (options[k] for k in ("user", "password", "host", "port"))
    return f"postgresql://{user}:{password}@{host}:{port}/{database}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("sources")
    profile, dsn = folder / "profile.toml", folder / "erp.dsn"
    profile.write_text(
        f'apply = true\n\n[[sources]]\nname = "erp"\ndsn_file = "{dsn}"\n'
        'column_exclude = "public.things.secret"\n'
    )
    with fresh_stack() as stack:
        dsn.write_text("postgresql://nobody@127.0.0.1/erp\n")  # before its server listens
        stack.up("--profile", str(profile), "--only", "postgres")
        with stack.source() as source:
            source.execute("CREATE DATABASE erp")
            source.execute("CREATE TABLE things (id int PRIMARY KEY, name text)")
            source.execute("INSERT INTO things VALUES (1, 'of the store')")
        stack.run("down", timeout_s=300)
        dsn.write_text(address(stack, "erp") + "\n")
        stack.up("--profile", str(profile), "--only", "postgres")
        with psycopg.connect(address(stack, "erp"), autocommit=True) as erp:
            erp.execute("CREATE TABLE things (id int PRIMARY KEY, secret text, n int)")
            erp.execute("INSERT INTO things VALUES (1, 'x', 10), (2, 'y', 20)")
        stack.up("--profile", str(profile), *SERVICES)
        yield stack


@pytest.fixture
def erp(stack: Stack) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(address(stack, "erp"), autocommit=True) as connection:
        yield connection


def columns(stack: Stack, source: str = "") -> list[str]:
    settings = of_source(stack.settings, source) if source else stack.settings
    fields = Lakehouse(settings).silver("things").schema().fields
    return [field.name for field in fields if not field.name.startswith("_")]


def await_equal(stack: Stack, source: str = "") -> None:
    """Wait until `verify` of a source's table finds no difference."""
    words = ("--from", source) if source else ()

    def verdicts() -> dict[str, str]:
        ended = stack.run(*words, "verify", "things", "--format", "json", expect=None)
        return {row["table"]: row["verdict"] for row in json.loads(ended.stdout or "[]")}

    until(
        verdicts,
        lambda verdicts: verdicts == {"things": "equal"},
        within_s=WITHIN_S,
        what=f"silver equal to the source {source or 'of the home'}",
    )


def test_rows_of_both_arrive_and_equal_names_stay_apart(
    stack: Stack, erp: psycopg.Connection[tuple[Any, ...]]
) -> None:
    with stack.source() as source:
        source.execute("INSERT INTO things VALUES (2, 'another')")
    erp.execute("UPDATE things SET n = 11 WHERE id = 1")
    await_equal(stack)
    await_equal(stack, "erp")
    assert (columns(stack), columns(stack, "erp")) == (["id", "name"], ["id", "n"])
    stack.await_answer(
        "SELECT name FROM silver.things ORDER BY id", [("of the store",), ("another",)]
    )
    stack.await_answer("SELECT n FROM silver_erp.things ORDER BY id", [(11,), (20,)])


def test_a_source_that_is_away_holds_up_nothing_of_the_other(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("ALTER DATABASE erp ALLOW_CONNECTIONS false")
        source.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'erp'"
        )
        try:
            source.execute("UPDATE things SET name = 'while the other is away'")
            stack.await_answer(
                "SELECT DISTINCT name FROM silver.things", [("while the other is away",)]
            )
            await_equal(stack)
        finally:
            source.execute("ALTER DATABASE erp ALLOW_CONNECTIONS true")
    with psycopg.connect(address(stack, "erp"), autocommit=True) as erp:
        erp.execute("INSERT INTO things VALUES (3, 'z', 30)")
    await_equal(stack, "erp")
    stack.await_answer("SELECT n FROM silver_erp.things ORDER BY id", [(11,), (20,), (30,)])


def test_the_verbs_work_on_a_further_source(
    stack: Stack, erp: psycopg.Connection[tuple[Any, ...]]
) -> None:
    of = ("--from", "erp")
    erp.execute("UPDATE things SET n = 12 WHERE id = 1")
    await_equal(stack, "erp")
    [first, *_, now] = stack.answer(*of, "trace", "things", "1", "--seconds", "30")
    assert first["kafka"].startswith("hw_erp.public.things")
    assert now["row"] == {"id": 1, "n": 12}
    [row] = stack.answer(*of, "resync", "things", timeout_s=WITHIN_S)
    assert (row["table"], row["state"]) == ("public.things", "done")
    stack.run(*of, "rebuild", "things", timeout_s=WITHIN_S)
    await_equal(stack, "erp")
    stack.run(*of, "verify", "--bronze", timeout_s=WITHIN_S)
    assert "flows" in stack.run(*of, "recover").stdout
    assert stack.answer(*of, "quarantine", "list") == []
    checks = stack.checks()
    assert checks["erp: table public.things"]["observed"] == "left out by column_exclude: secret"
    assert checks["table public.things"]["observed"] == "captured"


def test_a_source_that_the_home_does_not_have_is_named(stack: Stack) -> None:
    refused = stack.run("--from", "crm", "verify", expect=3).stderr
    assert "there is no source `crm`" in refused and "erp" in refused


def test_verify_and_status_show_the_tables_of_all_sources(stack: Stack) -> None:
    await_equal(stack)
    await_equal(stack, "erp")
    rows = json.loads(stack.run("verify", "--format", "json", timeout_s=WITHIN_S).stdout)
    verdicts = {row["table"]: row["verdict"] for row in rows}
    assert (verdicts["things"], verdicts["erp.things"]) == ("equal", "equal")
    shown = json.loads(stack.run("status", "--format", "json").stdout)
    states = {row["service"]: row["state"] for row in shown}
    assert (states["silver.things"], states["silver_erp.things"]) == ("running", "running")
    assert (states["capture-erp"], states["silver-erp"]) == ("ready", "ready")


def test_a_source_that_is_detached_and_taken_from_the_profile_leaves_nothing_in_its_database(
    stack: Stack, tmp_path: Path
) -> None:
    stopped = stack.run("down", timeout_s=300).stderr
    assert "`headwater_erp`" in stopped and "./headwater --from erp detach --apply" in stopped
    stack.up("--only", "postgres")
    detached = stack.run("--from", "erp", "detach", "--apply").stderr
    assert "the replication slot headwater_erp" in detached
    with stack.source() as source:
        slots = source.execute("SELECT slot_name FROM pg_replication_slots").fetchall()
    assert slots == [("headwater",)]
    profile = tmp_path / "profile.toml"
    profile.write_text("sources = []\n")
    stack.run("down", timeout_s=300)
    stack.up("--profile", str(profile), *SERVICES)
    assert Worker(stack.settings.connect_url).config("source_erp") is None
    assert Worker(stack.settings.connect_url).config("source") is not None
    await_equal(stack)
