"""Which differing rows quarantine explains, and which it does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.compare.compare import Comparison, Row, compare
from app.compare.explained import Explanations, read_explanations
from app.verify.table_verification import Options
from app.verify.verdict import Verdict
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.masks import expected_in_silver
from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent
from spark_streaming.events.layout import PLACEHOLDER
from spark_streaming.rules.contract_folder import treat
from spark_streaming.rules.rules import TableRules
from tests.unit.debezium_events import event

COLUMNS = (
    Column("id", "integer", "int32", nullable=False, base_type="int4"),
    Column("day", "date", "date", base_type="date"),
    Column("big", "text", "text", toastable=True, base_type="text"),
)
NAME = Column("id", "text", "text", nullable=False, base_type="text")
TABLE = Contract("public", "films", COLUMNS, ("id",))
KEYLESS = Contract("public", "films", COLUMNS, (), replica_identity="full")
DAY = "2026-11-21"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def image(key: int, big: object = "a", day: object = DAY) -> dict[str, Any]:
    return {"id": key, "day": day, "big": big}


def row(key: int, big: str | None = "a", day: str | None = DAY) -> Row:
    return (str(key), day, big)


def explanations(
    contract: Contract, *entries: RawEvent, rules: TableRules | None = None
) -> Explanations:
    found = rules or TableRules("public", "films")
    expect = expected_in_silver(contract, found.empty_to_null, found.masks, b"s")
    reasons = [(one, "v_range: out of range") for one in entries]
    return read_explanations(
        contract, reasons, lambda changes: treat(changes, found, b"s")[1], expect
    )


def compared(
    folder: Path,
    source: Iterable[Row],
    silver: Iterable[Row],
    found: Explanations,
    key: bool = True,
) -> Comparison:
    ours, theirs = list(source), list(silver)
    names = [column.name for column in COLUMNS]
    positions = [0] if key else []
    return compare(
        lambda: ours, lambda: theirs, names, positions, scratch=folder, explanations=lambda: found
    )


def test_row_whose_newest_event_is_in_quarantine_is_counted_apart(tmp_path: Path) -> None:
    entry = event("u", key={"id": 1}, after=image(1, "new"))
    found = compared(
        tmp_path, [row(1, "new"), row(2)], [row(1), row(2)], explanations(TABLE, entry)
    )
    assert found.equal and found.explained == 1 and found.differing == 0
    [explanation] = found.explanations
    assert (explanation.key, explanation.reason) == ("id=1", "v_range: out of range")
    verdict = Verdict("films", comparison=found)
    assert verdict.word == "explained" and verdict.equal_or_explained and not verdict.equal
    assert list(verdict.messages()) == [
        "films: equal but for 1 rows whose newest event is in quarantine; "
        "see `./headwater quarantine list`",
        "films: explained by quarantine: id=1: v_range: out of range",
    ]
    assert not Options().passes(verdict)
    assert Options(allow_quarantined=True).passes(verdict)


def test_row_that_has_a_later_event_than_the_one_in_quarantine_is_not_explained(
    tmp_path: Path,
) -> None:
    entry = event("u", key={"id": 1}, after=image(1, "new"))
    found = compared(tmp_path, [row(1, "newer")], [row(1)], explanations(TABLE, entry))
    assert (found.explained, found.differing) == (0, 1)
    assert Verdict("films", comparison=found).word == "differs"


def test_other_rows_that_differ_are_named_beside_those_in_quarantine(tmp_path: Path) -> None:
    entry = event("c", key={"id": 1}, after=image(1))
    found = compared(tmp_path, [row(1), row(2)], [row(2, "forged")], explanations(TABLE, entry))
    assert (found.explained, found.differing, found.missing) == (1, 1, 0)
    assert [one.key for one in found.differences] == ["id=2"]


def test_row_that_is_equal_in_spite_of_an_entry_is_equal(tmp_path: Path) -> None:
    entry = event("u", key={"id": 1}, after=image(1, "new"))
    found = compared(tmp_path, [row(1), row(2)], [row(1), row(2, "x")], explanations(TABLE, entry))
    assert (found.explained, found.differing) == (0, 1)


@pytest.mark.parametrize(
    "entry",
    [
        event("u", key={"id": 1}, after=image(1, PLACEHOLDER)),
        event("u", key={"id": 1}, after=image(1, "new", "infinity")),
        event("u", key={"id": 1}, after=image(1))._replace(value=b"not json"),
    ],
    ids=["left-out", "undecodable-value", "not-json"],
)
def test_event_whose_values_cannot_be_told_explains_its_row(
    tmp_path: Path, entry: RawEvent
) -> None:
    found = compared(tmp_path, [row(1, "whatever")], [row(1)], explanations(TABLE, entry))
    assert (found.explained, found.differing) == (1, 0)


def test_delete_in_quarantine_explains_a_row_too_many_and_no_other_value(tmp_path: Path) -> None:
    entry = event("d", key={"id": 1}, before=image(1))
    assert compared(tmp_path, [], [row(1)], explanations(TABLE, entry)).explained == 1
    assert compared(tmp_path, [row(1, "x")], [row(1)], explanations(TABLE, entry)).differing == 1


def test_masked_values_are_compared_as_silver_would_have_them(tmp_path: Path) -> None:
    named = Contract("public", "films", (NAME, *COLUMNS[1:]), ("id",))
    rules = TableRules("public", "films", masks={"big": "partial", "id": "hash"})
    rows = [("ada", DAY, "ada@example.com"), ("bob", None, "b@c.org")]
    entries = [
        event("c", key={"id": "ada"}, after={"id": "ada", "day": DAY, "big": rows[0][2]}),
        event("c", key={"id": "bob"}, after={"id": "bob", "day": "infinity", "big": rows[1][2]}),
    ]
    expect = expected_in_silver(named, (), rules.masks, b"s")
    found = compared(tmp_path, map(expect, rows), [], explanations(named, *entries, rules=rules))
    assert (found.explained, found.missing) == (2, 0)


@given(st.integers(0, 2**32))
def test_copies_in_quarantine_explain_as_many_copies_and_no_more(scratch: Path, seed: int) -> None:
    random = Random(seed)
    source = [row(1, random.choice("ab")) for _ in range(random.randint(0, 6))]
    silver, entries = list[Row](), list[RawEvent]()
    unexplained = Counter[Row]()
    for one in source:
        where = random.choice(["silver", "quarantine", "lost"])
        if where == "silver":
            silver.append(one)
        elif where == "quarantine":
            entries.append(event("c", after=image(1, one[2]), offset=len(entries)))
        else:
            unexplained[one] += 1
    found = compared(scratch, source, silver, explanations(KEYLESS, *entries), key=False)
    assert (found.explained, found.missing) == (len(entries), unexplained.total())
    assert found.extra == found.differing == 0


def test_entries_name_the_key_also_where_only_the_message_has_it() -> None:
    entry = event("c", key={"id": 7})._replace(value=json.dumps({"op": "c"}).encode())
    found = explanations(TABLE, entry)
    assert len(found) == 1


MOMENT = Column("at", "timestamp with time zone", "timestamptz", base_type="timestamptz")
NUMBER = Column("n", "numeric", "decimal", precision=38, scale=9, base_type="numeric")
BY_MOMENT = Contract("public", "films", (MOMENT, NUMBER, *COLUMNS[2:]), ("at", "n"))


@pytest.mark.parametrize(
    ("at", "printed"),
    [
        ("infinity", "infinity"),
        ("-infinity", "-infinity"),
        ("0044-03-15 12:34:56+00 BC", "0044-03-15 12:34:56+00 BC"),
        ("+10000-01-01T12:34:56.5Z", "10000-01-01 12:34:56.5+00"),
    ],
)
@pytest.mark.parametrize(("n", "shown"), [("NAN", "NaN"), ("1" * 40, "1" * 40)])
def test_a_row_whose_key_silver_cannot_hold_is_explained_by_its_entry(
    tmp_path: Path, at: str, printed: str, n: str, shown: str
) -> None:
    entry = event("c", key={"at": at, "n": n}, after={"at": at, "n": n, "big": "a"})
    found = compare(
        lambda: [(printed, shown, "a"), (printed, "1.000000000", "b")],
        lambda: [],
        ["at", "n", "big"],
        [0, 1],
        scratch=tmp_path,
        explanations=lambda: explanations(BY_MOMENT, entry),
    )
    assert (found.explained, found.missing) == (1, 1)
    assert found.explanations[0].key == f"at={printed}, n={shown}"


def test_a_date_of_which_a_snapshot_gives_two_explains_the_row_of_either(tmp_path: Path) -> None:
    days = Contract("public", "films", (COLUMNS[1], *COLUMNS[2:]), ("day",))
    day = "1582-10-10 or 1582-10-20"
    entry = event("r", key={"day": day}, after={"day": day, "big": "a"})
    found = compare(
        lambda: [("1582-10-20", "a")],
        lambda: [],
        ["day", "big"],
        [0],
        scratch=tmp_path,
        explanations=lambda: explanations(days, entry),
    )
    assert (found.explained, found.missing) == (1, 0)


def test_copies_that_silver_cannot_hold_are_explained_in_a_table_without_a_key(
    tmp_path: Path,
) -> None:
    entries = [event("c", after=image(1, day="infinity"), offset=n) for n in range(2)]
    entries.append(event("u", before=image(2), after=image(2, day="-infinity"), offset=3))
    source = [row(1, day="infinity")] * 3 + [row(2, day="-infinity")]
    found = compared(tmp_path, source, [row(2)], explanations(KEYLESS, *entries), key=False)
    assert (found.explained, found.missing, found.extra) == (4, 1, 0)
