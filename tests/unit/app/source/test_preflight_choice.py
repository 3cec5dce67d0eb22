"""Preflight's findings for the tables and columns that a profile chooses, and the connector's configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.connectors.registration import source_config
from app.environment.settings import checked, load, only, place_of
from app.environment.toml_files import SettingsError
from app.source.facts import Facts, Slot
from app.source.findings import LEFT_OUT, MISSING, NOTE, OK
from app.source.left_out import judge_choice
from app.source.shared_names import shared_names, to_exclude
from app.source.source_judge import judge
from app.source.source_tables import Names
from spark_streaming.capture_choice import Choice
from tests.unit.app.source.test_preflight_judge import ORDERS, READY, SECRET, standing

USERS = replace(ORDERS, oid=2, name="users", columns=("id", "password"), key=("id",))
SLOT = Slot(plugin="pgoutput", database="shop", wal_status="reserved", active=True)
CHOICE = Choice(columns=("public.users.*d",))


def found(facts: Facts) -> list[tuple[str, str, str]]:
    return [(f.check, f.status, f.observed) for f in judge_choice(facts, lambda key: f"<{key}>")]


def test_a_pattern_that_leaves_out_a_key_column_is_refused_with_its_place() -> None:
    users = replace(USERS, excluded=("id", "password"))
    facts = replace(READY, tables=(users,), choice=CHOICE, slot=SLOT)
    [(check, status, observed)] = found(facts)
    assert (check, status) == ("setting column_exclude", MISSING)
    assert observed == (
        "`public.users.*d` leaves out public.users.id, a column of a key (in <column_exclude>)"
    )
    # A table that is added later stops nothing: it is left out.
    later = replace(users, published=False)
    facts = replace(facts, tables=(later,))
    assert [status for _, status, _ in found(facts)] == [NOTE]
    assert standing(facts)["table public.users"].status == LEFT_OUT
    assert "leaves out id of its key" in standing(facts)["table public.users"].observed


def test_a_pattern_that_fits_nothing_is_refused_before_the_first_start_and_noted_later() -> None:
    chosen = Choice(exclude=("public.log_*",))
    facts = replace(READY, tables=(USERS,), choice=chosen)
    [(check, status, observed)] = found(facts)
    assert (check, status) == ("setting table_exclude", MISSING)
    assert observed == "no table of the source fits `public.log_*` (in <table_exclude>)"
    assert [status for _, status, _ in found(replace(facts, slot=SLOT))] == [NOTE]


def test_a_table_that_is_not_chosen_is_left_out_with_nothing_to_do() -> None:
    outside = replace(ORDERS, published=False, chosen=False, identity="n")
    finding = standing(replace(READY, tables=(outside,)))["table public.orders"]
    assert (finding.status, finding.fixes) == (LEFT_OUT, ())
    published = replace(outside, published=True)
    finding = standing(replace(READY, tables=(published,)))["table public.orders"]
    assert (finding.status, finding.remedy) == (
        MISSING, 'ALTER PUBLICATION "headwater" DROP TABLE ONLY "public"."orders";',
    )  # fmt: skip


def test_a_table_that_is_not_chosen_takes_no_name_and_the_connector_passes_over_it() -> None:
    older = replace(ORDERS, oid=1, chosen=False)
    newer = replace(ORDERS, oid=2, name="Orders", published=False)
    assert shared_names([older, newer]) == {}
    assert to_exclude([older, newer]) == [older]


def test_a_carried_table_says_which_columns_are_left_out() -> None:
    users = replace(USERS, excluded=("password",))
    facts = replace(READY, tables=(users,), choice=CHOICE)
    finding = next(f for f in judge(facts, SECRET) if f.check == "table public.users")
    assert (finding.status, finding.observed) == (NOTE, "left out by column_exclude: password")
    assert [f.status for f in judge_choice(facts, str)] == []
    plain = next(f for f in judge(READY, SECRET) if f.check == "table public.orders")
    assert plain.status == OK


def test_the_connector_is_told_which_columns_it_leaves_out() -> None:
    config = source_config({}, "postgresql://c@db/shop", Names(), [USERS], choice=CHOICE)
    assert config["column.exclude.list"] == ",".join(CHOICE.column_expressions())
    assert "column.exclude.list" not in source_config({}, "postgresql://c@db/s", Names(), [USERS])


def test_what_is_no_pattern_is_refused_with_the_profiles_line(tmp_path: Path) -> None:
    profile = tmp_path / "own.toml"
    profile.write_text('slot_name = "mine"\ntable_exclude = "public.a, log"\n')
    with pytest.raises(SettingsError) as refused:
        only(profile)
    assert "`log` is not of the form `schema.table`" in str(refused.value)
    assert f"line 2 of {profile}" in str(refused.value)
    with pytest.raises(SettingsError, match="it names no table"):
        checked(tmp_path, {"table_include": " , "}, origin="the test")


def test_a_settings_place_is_the_profile_that_was_given_else_the_homes_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADWATER_PORT_OFFSET", raising=False)
    profile = tmp_path / "own.toml"
    profile.write_text('\n\ntable_exclude = "public.a"\n')
    given = load(tmp_path / "home", profile)
    assert place_of(given, "table_exclude") == f"line 3 of {profile}"
    given.save()
    saved = load(tmp_path / "home")
    assert place_of(saved, "table_exclude").endswith("settings.toml")
    unset = load(tmp_path / "other")
    assert place_of(unset, "column_exclude") == "the environment (HEADWATER_COLUMN_EXCLUDE)"
