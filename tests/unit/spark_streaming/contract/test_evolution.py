"""The changes of a table follow from two readings of the catalog."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ContractFileError, Evolution, read_file
from spark_streaming.contract.evolution import (
    EVOLVE,
    POLICIES,
    changes_between,
    is_widening,
    next_version,
    policy_of,
    strictest,
)
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from tests.support.evolution_cases import CELLS, SHAPES

ID = Column("id", "integer", "int32", nullable=False, base_type="int4", attnum=1)
NOTE = Column("note", "text", "text", base_type="text", attnum=2)
PRICE = Column("price", "numeric(8,2)", "decimal", True, 8, 2, base_type="numeric", attnum=3)
MOOD = Column("mood", "mood", "enum", base_type="mood", attnum=4, labels=("sad", "happy"))
FILMS = Contract("public", "films", (ID, NOTE, PRICE, MOOD), ("id",), oid=100)


def with_columns(*columns: Column, **changes: object) -> Contract:
    return replace(FILMS, columns=columns, **changes)  # type: ignore[arg-type]


def kinds(found: Contract | None, known: Contract | None = FILMS) -> list[tuple[str, str]]:
    return [(change.kind, change.column) for change in changes_between(known, found)]


EXTRA = Column("extra", "integer", "int32", base_type="int4", attnum=5)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (FILMS, []),
        (replace(FILMS, version=9, xid=5, valid_from_lsn=Lsn(7)), []),
        (with_columns(ID, NOTE, PRICE, MOOD, EXTRA), [("add_column", "extra")]),
        (with_columns(ID, NOTE, PRICE), [("drop_column", "mood")]),
        (
            with_columns(ID, replace(NOTE, name="remark"), PRICE, MOOD),
            [("rename_column", "remark")],
        ),
        (
            with_columns(ID, replace(NOTE, attnum=5), PRICE, MOOD),
            [("drop_column", "note"), ("add_column", "note")],
        ),
        (
            with_columns(replace(ID, pg_type="bigint", kind="int64"), NOTE, PRICE, MOOD),
            [("widen_type", "id")],
        ),
        (
            with_columns(
                ID, replace(NOTE, pg_type="integer", kind="int32", base_type="int4"), PRICE, MOOD
            ),
            [("incompatible_change", "note")],
        ),
        (
            with_columns(ID, NOTE, PRICE, replace(MOOD, labels=("sad", "so so", "happy"))),
            [("enum_value", "mood")],
        ),
        (replace(FILMS, key=("id", "note")), [("key_change", "")]),
        (replace(FILMS, replica_identity="full"), [("replica_identity", "")]),
        (replace(FILMS, oid=200), [("table_recreated", "")]),
        (None, [("table_dropped", "")]),
    ],
)
def test_a_change_has_its_kind(found: Contract | None, wanted: list[tuple[str, str]]) -> None:
    assert kinds(found) == wanted


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("text", "text", "text"), ("character varying(50)", "text", "varchar")),
        (("character varying(50)", "text", "varchar"), ("character varying(5)", "text", "varchar")),
        (("character(9)", "text", "bpchar"), ("text", "text", "text")),
        (("character(9)", "text", "bpchar"), ("character(4)", "text", "bpchar")),
        (
            ("timestamp without time zone", "timestamp", "timestamp"),
            ("timestamp(3) without time zone", "timestamp", "timestamp"),
        ),
        (("json", "json", "json"), ("jsonb", "json", "jsonb")),
    ],
)
def test_a_type_that_is_the_same_in_silver_stops_no_table_and_is_warned_of(
    old: tuple[Any, ...], new: tuple[Any, ...]
) -> None:
    known, found = (with_columns(ID, replace(_column(*one), attnum=2)) for one in (old, new))
    [change] = changes_between(known, found)
    assert policy_of(Evolution(), change.kind) == EVOLVE
    assert "silver's column stays" in change.warning and "verify" in change.warning


def test_texts_of_two_forms_are_another_type() -> None:
    known = with_columns(ID, replace(_column("inet", "text_as_is", "inet"), attnum=2))
    found = with_columns(ID, replace(_column("cidr", "text_as_is", "cidr"), attnum=2))
    assert [change.kind for change in changes_between(known, found)] == ["incompatible_change"]


def test_a_table_that_was_not_known_is_added() -> None:
    assert kinds(FILMS, None) == [("table_added", "")]


def test_a_key_column_that_is_renamed_is_no_other_key() -> None:
    renamed = with_columns(replace(ID, name="number"), NOTE, PRICE, MOOD, key=("number",))
    assert kinds(renamed) == [("rename_column", "number")]


def _column(
    pg_type: str, kind: str, base: str, p: int | None = None, s: int | None = None
) -> Column:
    return Column("c", pg_type, kind, True, p, s, base_type=base, attnum=1)


INT, BIGINT = _column("integer", "int32", "int4"), _column("bigint", "int64", "int8")
REAL, DOUBLE = _column("real", "float32", "float4"), _column("double", "float64", "float8")
TEXT, MOODS = _column("text", "text", "text"), _column("mood", "enum", "mood")
TIMESTAMP = _column("timestamp without time zone", "timestamp", "timestamp")
TIMESTAMP_3 = replace(TIMESTAMP, pg_type="timestamp(3) without time zone")
TIMESTAMPTZ = _column("timestamp with time zone", "timestamptz", "timestamptz")


def _numeric(p: int, s: int) -> Column:
    return _column(f"numeric({p},{s})", "decimal", "numeric", p, s)


def _varchar(length: int) -> Column:
    return _column(f"character varying({length})", "text", "varchar")


def _char(length: int) -> Column:
    return _column(f"character({length})", "text", "bpchar")


def _array(of: Column, pg_type: str = "") -> Column:
    return replace(of, pg_type=pg_type or f"{of.pg_type}[]", kind="array", element=of.kind)


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [
        (INT, BIGINT, True),
        (BIGINT, INT, False),
        (REAL, DOUBLE, True),
        (_numeric(8, 2), _numeric(10, 3), True),
        (_numeric(8, 2), _numeric(8, 3), False),
        (_numeric(8, 2), _column("numeric", "text_as_is", "numeric"), True),
        (INT, _numeric(12, 2), True),
        (INT, _numeric(6, 2), False),
        (_varchar(5), _varchar(9), True),
        (_varchar(9), _varchar(5), False),
        (_varchar(9), TEXT, True),
        (_char(5), _char(9), False),
        (TIMESTAMP_3, TIMESTAMP, True),
        (TIMESTAMP, TIMESTAMPTZ, False),
        (MOODS, TEXT, True),
        (TEXT, MOODS, False),
        (INT, TEXT, False),
        (TEXT, _array(TEXT), False),
        (_array(_numeric(8, 2)), _column("numeric", "text_as_is", "numeric"), False),
        (_array(INT), _array(BIGINT, "big_numbers"), True),  # a domain
        (_array(INT), _array(TEXT), False),
    ],
    ids=lambda given: given.pg_type if isinstance(given, Column) else str(given),
)
def test_a_type_is_wider_where_every_value_stays_as_it_is(
    old: Column, new: Column, wider: bool
) -> None:
    assert is_widening(old, new) is wider


def test_a_default_that_gave_each_row_another_value_is_told() -> None:
    token = replace(EXTRA, name="token", filled_by="gen_random_uuid()")
    [change] = changes_between(FILMS, with_columns(ID, NOTE, PRICE, MOOD, token))
    assert "gen_random_uuid()" in change.warning and "headwater resync" in change.warning
    later = replace(EXTRA, filled_by="5")
    [change] = changes_between(FILMS, with_columns(ID, NOTE, PRICE, MOOD, later))
    assert change.warning == ""


def test_a_version_keeps_dropped_columns_and_knows_the_one_before() -> None:
    without = with_columns(ID, PRICE, MOOD)
    newer = next_version(FILMS, without)
    assert [c.name for c in newer.columns] == ["id", "price", "mood", "note"]
    assert newer.columns[-1].dropped and newer.columns[-1].attnum == 2
    assert (newer.version, newer.previous_versions) == (2, (FILMS,))
    assert next_version(newer, without) is newer, "it is the same table still"
    again = next_version(newer, with_columns(ID, PRICE, MOOD, replace(NOTE, attnum=5)))
    assert [(c.name, c.attnum) for c in again.columns if c.name == "note"] == [("note", 5)]
    assert Contract.from_json(again.to_json()) == again
    made_again = next_version(newer, replace(FILMS, oid=200))
    assert not any(column.dropped for column in made_again.columns)


def test_a_contract_of_an_earlier_release_gets_its_numbers_without_a_change() -> None:
    old = replace(FILMS, oid=None, columns=tuple(replace(c, attnum=None) for c in FILMS.columns))
    assert changes_between(old, FILMS) == []
    renamed = with_columns(ID, replace(NOTE, name="remark"), PRICE, MOOD)
    told = [change.kind for change in changes_between(old, renamed)]
    assert told == ["drop_column", "add_column"], "without numbers a rename cannot be told"


def test_the_strictest_policy_counts() -> None:
    assert strictest(["evolve", "quarantine", "new_version"]) == "quarantine"
    assert strictest(["new_version", "evolve"]) == "new_version"
    assert strictest([]) == "evolve"
    assert policy_of(Evolution(), "incompatible_change") == "fail"
    assert policy_of(Evolution(incompatible_change="evolve"), "incompatible_change") == "evolve"


def test_each_kind_of_change_has_a_policy_in_contract_files() -> None:
    assert set(POLICIES) == set(Evolution.model_fields)
    assert all(policies.default in policies.allowed for policies in POLICIES.values())


def test_each_kind_of_change_has_a_table_on_the_real_chain_under_each_policy() -> None:
    assert set(SHAPES) == set(POLICIES)
    assert {(cell.kind, cell.policy) for cell in CELLS} == {
        (kind, policy) for kind, policies in POLICIES.items() for policy in policies.allowed
    }


def test_a_policy_that_a_kind_cannot_have_is_refused_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "public.films.toml"
    path.write_text('[evolution]\nadd_column = "fail"\nenum_value = "quarantine"\n')
    with pytest.raises(ContractFileError) as caught:
        read_file(path)
    [problem] = caught.value.problems
    assert problem.line == 3
    assert "`evolution.enum_value` cannot be 'quarantine'" in problem.message
    assert "one of evolve, fail" in problem.hint and "`values`" in problem.hint
