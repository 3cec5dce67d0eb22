from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verify.verify_uncompared import in_silver
from spark_streaming.contract.names import (
    ascii_silver_table,
    collisions,
    differ_in_case,
    parse_topic,
    silver_columns,
    silver_table,
    topic_of,
)


@pytest.mark.parametrize(
    ("schema", "table", "name"),
    [
        ("public", "orders", "orders"),
        ("sales", "orders", "sales__orders"),
        ("public", "OrderLines", "orderlines"),
        ("public", "odd name-1", "odd_name_1"),
        ("ünï", "täble", "ünï__täble"),
        ("public", "ÄPFEL", "äpfel"),
        ("public", "заказы", "заказы"),
        ("public", "日本", "日本"),
        ("public", "e\u0301t", "e\u0301t"),
        ("public", "smile\N{GRINNING FACE}", "smile\N{GRINNING FACE}"),
        ("public", "a\u00a0b", "a_b"),
        ("public", "a\u202eb", "a_b"),
        ("public", "a'b\"c$d%e/f\\\\g.h", "a_b_c_d_e_f_g_h"),
        ("public", "a -_- b", "a___b"),
    ],
)
def test_silver_table_is_named_after_the_source_table(schema: str, table: str, name: str) -> None:
    assert silver_table(schema, table) == name


LETTERS = st.text("aAzZ09_. -$'\"äÄößИия日😀\u0301\u200d\u00a0\u202e", min_size=1, max_size=4)
NAMES = st.lists(st.tuples(st.sampled_from(["public", "s", "ä"]), LETTERS), unique=True, max_size=6)


@given(NAMES)
def test_distinct_tables_share_no_silver_table_path_or_topic_unless_it_is_reported(
    names: list[tuple[str, str]],
) -> None:
    left = [name for name in names if name not in {found.table for found in collisions(names)}]
    silver = {silver_table(*name) for name in left}
    topics = {topic_of("hw", *name).replace(".", "_") for name in left}
    assert len(silver) == len(topics) == len(left)
    for one in silver:
        assert one == one.lower(), "Trino folds to lower case"
        assert not set(one) & set("/\\%$'\" .")


@given(st.text(min_size=1, max_size=20))
def test_letters_and_digits_stay_in_their_order_and_ascii_names_are_as_they_were(name: str) -> None:
    found = silver_table("public", name)
    assert [c for c in found if c.isalnum()] == [c for c in name.lower() if c.isalnum()]
    if name.isascii():
        assert found == ascii_silver_table("public", name)


def meeting(*tables: tuple[str, str]) -> list[tuple[str, str, bool]]:
    return [
        (".".join(found.table), ".".join(found.owner), found.in_kafka)
        for found in collisions(tables)
    ]


def test_tables_that_would_share_a_silver_table_are_found() -> None:
    assert meeting(("public", "orders"), ("public", "Orders"), ("a", "b"), ("public", "a__b")) == [
        ("public.Orders", "public.orders", False),
        ("public.a__b", "a.b", False),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("public", "a  b"), ("public", "a__b")),
        (("public", "a.b"), ("public", "a_b")),
        (("s", "e_t"), ("s_e", "t")),
        (("a.b", "c"), ("a", "b.c")),
        (("public", "ä"), ("public", "ö")),
    ],
)
def test_tables_whose_topics_kafka_cannot_tell_apart_are_found(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    assert meeting(first, second) == [(".".join(second), ".".join(first), True)]


def test_a_table_that_is_left_out_takes_no_name_from_others() -> None:
    assert meeting(("s", "x"), ("S", "X"), ("S_X", "y"), ("S", "X_y")) == [
        ("S.X", "s.x", False),
        ("S.X_y", "S_X.y", True),
    ]


def test_topic_of_a_table_is_parsed_back() -> None:
    assert parse_topic(topic_of("hw", "public", "orders"), "hw") == ("public", "orders")
    assert parse_topic("hw.public.with.dot", "hw") == ("public", "with.dot")


@pytest.mark.parametrize("topic", ["hw.transaction", "other.public.orders", "hw.", "hw..x"])
def test_topic_that_is_no_tables_is_told_apart(topic: str) -> None:
    assert parse_topic(topic, "hw") is None


def test_topic_holds_only_what_kafka_allows() -> None:
    assert topic_of("hw", "public", "odd näme") == "hw.public.odd_n_me"
    assert topic_of("hw", "public", "a\N{GRINNING FACE}b") == "hw.public.a__b"  # Java counts two


def test_columns_keep_their_names_where_delta_can_hold_them() -> None:
    assert silver_columns(["id", "Title", "prix_€"]) == ["id", "Title", "prix_€"]


def test_columns_that_delta_cannot_hold_or_tell_apart_get_other_names() -> None:
    names = silver_columns(["a b", "a_b", "Id", "id", "_lsn", "_op", "_keep_x"])
    assert names == ["a_b", "a_b_2", "Id", "id_2", "_lsn_2", "col_op", "col_keep_x"]


def test_columns_that_differ_in_case_only_are_named_together() -> None:
    assert differ_in_case(["a", "b", "é", "A", "É", "aa"]) == ["a, A", "é, É"]
    assert differ_in_case(["a", "b"]) == []


def test_a_name_that_an_earlier_release_gave_is_taken() -> None:
    given = {("public", "ää"): "_"}
    tables = [("public", "ää"), ("public", "_")]
    assert collisions(tables) == []
    [found] = collisions(tables, lambda *table: given.get(table, silver_table(*table)))
    assert (found.table, found.in_kafka) == (("public", "_"), False)


def test_tables_to_verify_are_named_as_silver_or_as_the_source_names_them() -> None:
    names = {"ünï__täble": ("ünï", "täble"), "orders": ("public", "Orders")}
    asked = ["ünï.täble", "ünï__täble", "Orders", "public.Orders", "nothing"]
    assert in_silver(names, asked) == ["ünï__täble", "ünï__täble", "orders", "orders", "nothing"]
