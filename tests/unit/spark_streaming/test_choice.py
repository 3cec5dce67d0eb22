"""The tables and columns that a profile's patterns choose."""

from __future__ import annotations

import re

import pytest

from spark_streaming.capture_choice import EVERYTHING, Choice, patterns


def choice(include: str = "*.*", exclude: str = "", columns: str = "") -> Choice:
    return Choice(
        patterns(include, parts=2), patterns(exclude, parts=2), patterns(columns, parts=3)
    )


@pytest.mark.parametrize(
    ("include", "exclude", "table", "captured"),
    [
        ("*.*", "", ("public", "orders"), True),
        ("public.*", "", ("sales", "orders"), False),
        ("public.orders, sales.*", "", ("sales", "x"), True),
        ("*.*", "public.log_*", ("public", "log_2026"), False),
        ("*.*", "public.log_*", ("public", "blog_1"), True),
        ("public.Orders", "", ("public", "orders"), False),
        ("public.o?ders", "", ("public", "orders"), True),
        ("*.*", "", ("s.e", "a b,\nc"), True),
        ("public.a?b", "", ("public", "a.b"), True),
    ],
)
def test_a_table_is_captured_that_an_include_has_and_no_exclude(
    include: str, exclude: str, table: tuple[str, str], captured: bool
) -> None:
    assert choice(include, exclude).has(*table) is captured


def test_columns_are_left_out_by_their_full_name() -> None:
    chosen = choice(columns="public.users.password*, *.*.ssn")
    names = ["id", "password", "password_salt", "ssn", "old_password"]
    assert chosen.left_out("public", "users", names) == ("password", "password_salt", "ssn")
    assert chosen.left_out("sales", "users", names) == ("ssn",)
    assert EVERYTHING.left_out("public", "users", names) == ()


def test_the_connector_gets_the_same_columns_and_never_the_captures_own() -> None:
    chosen = choice(columns="*.*.data, public.a-b.c?d")
    found = chosen.column_expressions()
    assert all(one.startswith("(?-i)") for one in found)  # Python has no such flag
    in_python = [
        re.sub(r"\\x\{(\w+)\}", lambda m: f"\\U{m[1]:0>8}", one.removeprefix("(?-i)"))
        for one in found
    ]
    names = [
        "public.t.data", "headwater.signal.data", "headwaters.signal.data", "public.t.Data",
        "public.a-b.cxd", "public.aXb.cxd", "public.a.b.data",
    ]  # fmt: skip
    for name in names:
        schema, table, column = name.split(".", 2)
        by_connector = any(re.fullmatch(one, name) for one in in_python)
        assert by_connector is bool(chosen.left_out(schema, table, [column])), name


def test_patterns_that_fit_nothing_are_named_with_their_setting() -> None:
    tables = {("public", "users"): ["id", "password"]}
    chosen = choice("*.*, shop.*", "public.log_*", "public.users.pasword, public.users.password")
    assert chosen.without_match(tables) == [
        ("table_include", "shop.*"),
        ("table_exclude", "public.log_*"),
        ("column_exclude", "public.users.pasword"),
    ]
    assert EVERYTHING.without_match({}) == []


@pytest.mark.parametrize(
    ("text", "parts", "message"),
    [
        ("users", 2, "`users` is not of the form `schema.table`"),
        ("public.users", 3, "`public.users` is not of the form `schema.table.column`"),
        ("public.", 2, "is not of the form"),
        (r"public\.users", 2, "is no regular expression"),
        ("public.(a|b)", 2, "is no regular expression"),
    ],
)
def test_what_is_no_pattern_is_refused_with_its_form(text: str, parts: int, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        patterns(text, parts=parts)
