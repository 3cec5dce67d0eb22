"""Rules on folded rows: which rows go to quarantine, which are counted, which stop a table."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import read_file
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.fold.keyed import fold
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows, describe, place_of
from spark_streaming.rules.contract_folder import treat
from spark_streaming.rules.expectations import Rule, broken
from spark_streaming.rules.row_judge import Verdict, judge
from spark_streaming.rules.rules import bind
from spark_streaming.rules.screen import at_lsn
from tests.unit.debezium_events import event, raw
from tests.unit.model import BAG, KEYED

GONE = "__debezium_unavailable_value"
Silver = Mapping[tuple[Any, ...], Mapping[str, Any]]


def row(number: int, note: str | None = "n", big: str | None = "b") -> dict[str, Any]:
    return {"id": number, "note": note, "big": big}


def run(
    folder: Path,
    text: str,
    *events: RawEvent,
    contract: Contract = KEYED,
    silver: Silver | None = None,
) -> Verdict:
    path = folder / "public.films.toml"
    path.write_text(text)
    rules = bind(read_file(path), contract)
    decoded = decode(events, contract, HighWater())
    assert decoded.rejects == []
    plain, masked = treat(decoded.changes, rules, b"secret")
    held = silver or {}

    def values_of(keys: list[tuple[Any, ...]]) -> Silver:
        return {key: held[key] for key in keys if key in held}

    folded = fold(masked, contract, values_of, lambda keys: set(held) & set(keys))
    return judge(folded, plain, contract, rules, values_of)


def rule(condition: str, action: str = "quarantine", name: str = "rule") -> str:
    return f"[[expectations]]\nname = '{name}'\ncondition = \"{condition}\"\naction = '{action}'\n"


def ids(verdict: Verdict) -> list[int]:
    return [found["id"] for found in verdict.folded.rows.to_pylist()]


def test_a_broken_quarantine_rule_takes_the_row_out_with_its_event(tmp_path: Path) -> None:
    bad = event("c", lsn=20, after=row(2, "bad"))
    found = run(tmp_path, rule("note <> 'bad'"), event("c", lsn=10, after=row(1)), bad)
    assert ids(found) == [1]
    assert [(r.event, r.rule) for r in found.rejects] == [(bad, "rule")]
    assert found.rejects[0].reason == "the row breaks `rule` (note <> 'bad'): note = bad"
    assert found.counts == {"rule": 1}


def test_a_broken_warn_rule_is_only_counted(tmp_path: Path) -> None:
    text = rule("note <> 'bad'", "warn") + rule("id < 3", "warn", "small")
    events = [event("c", lsn=n, after=row(n, "bad")) for n in (1, 2, 3)]
    found = run(tmp_path, text, *events)
    assert ids(found) == [1, 2, 3]
    assert found.rejects == [] and found.failure is None
    assert found.counts == {"rule": 3, "small": 1}


def test_a_broken_fail_rule_names_rule_and_rows_and_lets_nothing_through(tmp_path: Path) -> None:
    text = rule("id > 1", "fail", "large") + rule("note <> 'bad'")
    found = run(
        tmp_path, text, event("c", lsn=1, after=row(1)), event("c", lsn=2, after=row(2, "bad"))
    )
    assert found.failure == "1 row(s) break rule `large` (id > 1): id = 1"
    assert found.rejects == []


@pytest.mark.parametrize(
    ("condition", "value", "passes"),
    [
        ("note > 'a'", None, True),
        ("note IS NOT NULL", None, False),
        ("note::int > 0", "1", True),
        ("note::int > 0", "-1", False),
        ("note::int > 0", "one", False),
        ("note::int > 0", None, True),
        ("1 / (id - 1) > 0 OR TRUE", "x", True),
    ],
)
def test_null_passes_and_what_cannot_be_computed_does_not(
    tmp_path: Path, condition: str, value: str | None, passes: bool
) -> None:
    found = run(tmp_path, rule(condition), event("c", lsn=1, after=row(1, value)))
    assert ids(found) == ([1] if passes else [])


def test_a_state_that_the_same_batch_repairs_is_not_judged(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        rule("note <> 'bad'"),
        event("c", lsn=1, after=row(1, "bad")),
        event("u", lsn=2, after=row(1, "good")),
        event("c", lsn=3, after=row(2, "bad")),
        event("d", lsn=4, key={"id": 2}),
    )
    assert found.rejects == []
    assert [r["_op"] for r in found.folded.rows.to_pylist()] == ["u", "d"]


def test_a_row_goes_with_the_earlier_event_that_holds_its_large_value(tmp_path: Path) -> None:
    first = event("c", lsn=1, after=row(1, "good", "large"))
    between = event("u", lsn=2, after=row(1, "good", GONE))
    last = event("u", lsn=3, after=row(1, "bad", GONE))
    found = run(tmp_path, rule("note <> 'bad'"), first, between, last)
    assert [reject.event for reject in found.rejects] == [first, last]


def test_a_value_that_the_event_left_out_is_judged_as_silver_has_it(tmp_path: Path) -> None:
    update = event("u", lsn=9, after=row(1, "n", GONE))
    silver = {(1,): {"id": 1, "note": "x", "big": "bad"}}
    both = "big <> 'bad' OR note <> 'n'"
    assert ids(run(tmp_path, rule(both), update, silver=silver)) == []
    alone = run(tmp_path, rule("big <> 'bad'"), update, silver=silver)
    assert ids(alone) == [1], "the value was judged when it was written"
    assert ids(run(tmp_path, rule("big IS NOT NULL"), update, silver=silver)) == [1]


def test_a_batch_of_which_no_row_is_left_is_judged_too(tmp_path: Path) -> None:
    update = event("u", lsn=9, after=row(1, "n", GONE))
    found = run(tmp_path, rule("note <> 'bad'"), update)
    assert len(found.folded.rejects) == 1
    assert (found.rejects, found.counts) == ([], {})


def test_rules_see_values_before_they_are_masked(tmp_path: Path) -> None:
    text = "[columns.note]\nmask = 'redact'\n" + rule("note <> 'bad'")
    found = run(
        tmp_path, text, event("c", lsn=1, after=row(1)), event("c", lsn=2, after=row(2, "bad"))
    )
    assert [r["note"] for r in found.folded.rows.to_pylist()] == ["***"]
    assert found.rejects[0].reason.endswith("note = (masked)"), "the reason has no masked value"


def test_empty_text_is_judged_as_the_null_that_it_becomes(tmp_path: Path) -> None:
    text = "[columns.note]\nempty = 'null'\nnot_null = true"
    found = run(tmp_path, text, event("c", lsn=1, after=row(1, "")))
    assert [reject.rule for reject in found.rejects] == ["note_not_null"]


def test_a_table_without_a_key_leaves_out_the_broken_copies(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        rule("note <> 'bad'"),
        event("c", lsn=1, after=row(1, "bad")),
        event("u", lsn=2, before=row(2), after=row(2, "bad")),
        event("c", lsn=3, after=row(3)),
        contract=BAG,
    )
    assert [(r["id"], r["_op"]) for r in found.folded.rows.to_pylist()] == [(2, "d"), (3, "i")]
    assert len(found.rejects) == 2


def test_a_later_event_that_needs_a_value_from_quarantine_goes_there_too() -> None:
    held = event("u", lsn=5, key={"id": 1}, after=row(1, "bad", "new"))
    quarantined = QuarantinedRows()
    quarantined.add([held], KEYED)
    assert quarantined.columns() == {1: {"big": 5}}
    silver = {(1,): {"id": 1, "note": "x", "big": "old"}}

    def folded(*events: RawEvent, columns: Any) -> Any:
        changes = decode(events, KEYED, HighWater()).changes
        present = lambda keys: set(silver) & set(keys)  # noqa: E731
        return fold(changes, KEYED, lambda keys: silver, present, columns)

    later = event("u", lsn=9, key={"id": 1}, after=row(1, "good", GONE))
    found = folded(later, columns=quarantined.columns())
    assert len(found.rows) == 0
    assert [reject.event for reject in found.rejects] == [later]
    assert "offset 5" in found.rejects[0].reason
    assert len(folded(later, columns={}).rows) == 1
    whole = event("u", lsn=9, key={"id": 1}, after=row(1, "good", "new"))
    assert len(folded(whole, columns=quarantined.columns()).rows) == 1
    gone = row(2, "good", GONE)
    moved = event("c", lsn=9, order=2, key={"id": 2}, after=gone, headers={"oldkey": {"id": 1}})
    delete = event("d", lsn=9, key={"id": 1}, offset=8)
    rejected = folded(delete, moved, columns=quarantined.columns()).rejects
    assert [reject.event for reject in rejected] == [moved]


def test_only_a_newer_event_of_the_same_row_closes_an_entry() -> None:
    held = event("u", lsn=50, key={"id": 1}, after=row(1))
    quarantined = QuarantinedRows()
    quarantined.add([held, event("u", lsn=60, key={"id": 2}, after=row(2))], KEYED)

    def closed(*events: RawEvent, floor: int | None = None) -> list[int]:
        changes = decode(events, KEYED, HighWater()).changes.changes
        return sorted(
            place.offset
            for place in quarantined.closed_by(changes, None if floor is None else Lsn(floor))
        )

    assert closed(event("u", lsn=70, after=row(1))) == [50]
    assert closed(event("d", lsn=70, key={"id": 2})) == [60]
    assert closed(event("u", lsn=70, after=row(3))) == []
    assert closed(event("r", lsn=40, offset=70, snapshot="true", after=row(1))) == []
    assert closed(event("r", lsn=50, offset=70, snapshot="true", after=row(1))) == [50]
    assert closed(event("u", lsn=40, offset=70, after=row(1))) == [50], "of an older transaction"
    assert closed(floor=55) == [50]
    quarantined.remove([place_of(held)])
    assert closed(event("u", lsn=70, after=row(1))) == []


def test_what_cannot_be_read_is_kept_with_all_its_columns() -> None:
    key, entry = describe(raw(b"not json", offset=7, key=b'{"id": 4}'), KEYED)
    assert (key, entry.lsn, entry.columns) == (4, 0, frozenset({"big"}))
    key, entry = describe(event("u", lsn=8, after=row(5, "n", GONE)), KEYED)
    assert (key, entry.lsn, entry.columns) == (5, 8, frozenset())
    key, entry = describe(event("c", lsn=8, after=row(5)), BAG)
    assert key == entry.place


def test_conditions_reach_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("1")
    rows = pa.table({"id": [1]})
    condition = f"(FROM read_csv('{secret}')) IS NOT NULL"
    with pytest.raises(ValueError, match="subquery"):
        from spark_streaming.rules.expectations import checked

        checked(condition, rows.schema)
    with pytest.raises(ValueError):
        broken(rows, [Rule("r", "warn", condition, ("id",))])


def test_rules_are_picklable_for_workers() -> None:
    rule_ = Rule("r", "warn", "id > 1", ("id",))
    [found] = broken(pa.table({"id": [1, 2, None]}), [pickle.loads(pickle.dumps(rule_))])
    assert found.to_pylist() == [True, False, False]


def test_event_read_again_from_quarantine_may_only_replace_what_is_older() -> None:
    decoded = decode([event("u", lsn=7, after=row(1))], KEYED, HighWater())
    again = replace(decoded, changes=replace(decoded.changes, first_snapshot_lsn=Lsn(7)))
    folded = fold(at_lsn(again).changes, KEYED, lambda _: {})
    assert folded.rows["_guard_lsn"].to_pylist() == [7]
    assert folded.resnapshot_lsn is None, "it removes nothing that came before"
