from __future__ import annotations

import pytest

from spark_streaming.naming import (
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
    ],
)
def test_silver_table_is_named_after_the_source_table(schema: str, table: str, name: str) -> None:
    assert silver_table(schema, table) == name


def test_tables_that_would_share_a_silver_table_are_found() -> None:
    tables = [("public", "orders"), ("public", "Orders"), ("a", "b"), ("public", "a__b")]
    assert collisions(tables) == [
        (("public", "a__b"), ("a", "b")),
        (("public", "orders"), ("public", "Orders")),
    ]


def test_topic_of_a_table_is_parsed_back() -> None:
    assert parse_topic(topic_of("hw", "public", "orders"), "hw") == ("public", "orders")
    assert parse_topic("hw.public.with.dot", "hw") == ("public", "with.dot")


@pytest.mark.parametrize("topic", ["hw.transaction", "other.public.orders", "hw.", "hw..x"])
def test_topic_that_is_no_tables_is_told_apart(topic: str) -> None:
    assert parse_topic(topic, "hw") is None


def test_topic_holds_only_what_kafka_allows() -> None:
    assert topic_of("hw", "public", "odd näme") == "hw.public.odd_n_me"


def test_columns_keep_their_names_where_delta_can_hold_them() -> None:
    assert silver_columns(["id", "Title", "prix_€"]) == ["id", "Title", "prix_€"]


def test_columns_that_delta_cannot_hold_or_tell_apart_get_other_names() -> None:
    names = silver_columns(["a b", "a_b", "Id", "id", "_lsn", "_op", "_keep_x"])
    assert names == ["a_b", "a_b_2", "Id", "id_2", "_lsn_2", "col_op", "col_keep_x"]


def test_columns_that_differ_in_case_only_are_named_together() -> None:
    assert differ_in_case(["a", "b", "é", "A", "É", "aa"]) == ["a, A", "é, É"]
    assert differ_in_case(["a", "b"]) == []
