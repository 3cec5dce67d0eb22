"""`contract check` warns of missing descriptions, and of names that look personal."""

from __future__ import annotations

from pathlib import Path

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ContractFile, read_file
from spark_streaming.contract.types import Column
from spark_streaming.rules.meaning_gaps import gaps_of_file, gaps_without_file, looks_personal

PEOPLE = Contract(
    "public",
    "people",
    (
        Column("id", "bigint", "int64"),
        Column("email", "text", "text"),
        Column("note", "text", "text"),
    ),
    key=("id",),
)


def file(folder: Path, text: str) -> ContractFile:
    path = folder / "public.people.toml"
    path.write_text(text)
    return read_file(path)


@pytest.mark.parametrize(
    "name",
    [
        "email",
        "e_mail",
        "customer_email",
        "firstName",
        "last_name",
        "FULL_NAME",
        "phone2_phone",
        "birthDate",
        "born",
        "dob",
        "iban",
        "ip_address",
        "clientIp",
        "home_address",
        "zip",
        "card_number",
        "tax_id",
    ],
)
def test_a_name_that_people_have_looks_personal(name: str) -> None:
    assert looks_personal(name)


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "name",
        "title",
        "addressed_at",
        "shipped",
        "mailbox_count",
        "zipped",
        "ratio",
        "tip",
        "skip",
        "stars",
    ],
)
def test_another_name_does_not(name: str) -> None:
    assert not looks_personal(name)


def test_what_a_file_leaves_unsaid_is_told_once_a_kind_and_personal_names_one_by_one(
    tmp_path: Path,
) -> None:
    text = '[columns.note]\ndescription = "Free text"\n[columns.email]\nnot_null = true\n'
    found = gaps_of_file(file(tmp_path, text), PEOPLE, {"id": "Number"})
    assert [(gap.line, gap.message) for gap in found] == [
        (1, "1 column(s) without description: email"),
        (1, "3 column(s) without class: id, email, note"),
        (3, "column `email` looks personal and is not classified"),
    ]


def test_a_file_that_says_all_is_left_in_peace(tmp_path: Path) -> None:
    text = "".join(
        f'[columns.{name}]\ndescription = "d"\nclassification = "public"\n'
        for name in ("id", "email", "note")
    )
    assert gaps_of_file(file(tmp_path, text), PEOPLE, {}) == []


def test_without_the_source_only_the_files_own_columns_are_judged(tmp_path: Path) -> None:
    found = gaps_of_file(file(tmp_path, '[columns.email]\ndescription = "d"\n'), None, {})
    assert [gap.message for gap in found] == [
        "1 column(s) without class: email",
        "column `email` looks personal and is not classified",
    ]


def test_a_table_without_a_file_is_warned_of_only_where_names_look_personal() -> None:
    path = Path("contracts/public.people.toml")
    [gap] = gaps_without_file(PEOPLE, path)
    assert "column(s) email look personal" in gap.message
    assert "contract init public.people" in gap.hint
    plain = Contract("public", "things", (Column("id", "bigint", "int64"),), key=("id",))
    assert gaps_without_file(plain, path) == []


def test_of_many_columns_some_are_named_and_the_others_counted(tmp_path: Path) -> None:
    columns = tuple(Column(f"c{n}", "text", "text") for n in range(20))
    wide = Contract("public", "people", columns, key=())
    found = gaps_of_file(file(tmp_path, "description = 'd'\n"), wide, {})
    assert found[0].message.endswith("c6, c7 and 12 more")
