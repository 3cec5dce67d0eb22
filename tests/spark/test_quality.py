"""Contracts in real batches: rules, masks, and causes that stop a table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spark_streaming.batch.upkeep.table_upkeep import finish, maintain_ops
from tests.spark.shop import GONE, POSITIVE, Shop


def test_only_the_broken_row_goes_to_quarantine_and_silver_keeps_its_last_good_state(
    shop: Shop,
) -> None:
    shop.contract(POSITIVE + "[columns.big]\nvalues = ['b']\naction = 'warn'")
    shop.run(shop.event("c", 10, 1, 5), shop.event("c", 11, 2, 6, "c"))
    [row, _] = shop.run(shop.event("u", 20, 1, -5), shop.event("u", 21, 2, 7, "c"))
    assert shop.rows() == {1: (5, "b"), 2: (7, "c")}
    assert shop.quarantined() == [(3, "v_range", "open")]
    assert row.rows_quarantined == 1
    found = shop.lake.table("ops/expectations").to_pyarrow_table().to_pylist()
    mine = [r for r in found if r["query_id"] == shop.query_id]
    counts = sorted((r["batch_id"], r["rule"], r["action"], r["rows_broken"]) for r in mine)
    assert counts == [
        (0, "big_values", "warn", 1),
        (1, "big_values", "warn", 1),
        (1, "v_range", "quarantine", 1),
    ]


def test_masks_and_empty_texts_reach_silver_as_declared(shop: Shop) -> None:
    shop.contract("[columns.big]\nempty = 'null'\nmask = 'partial'")
    shop.run(shop.event("c", 10, 1, 5, "ada@example.com"), shop.event("c", 11, 2, 5, ""))
    shop.run(shop.event("u", 20, 1, 6, GONE))
    assert shop.rows() == {1: (6, "a***@example.com"), 2: (5, None)}


def test_reference_sees_silver_and_the_batch_itself(shop: Shop) -> None:
    target = f"{shop.schema}.parents.id"
    shop.contract(f"[columns.v]\nreferences = '{target}'\naction = 'quarantine'")
    shop.run(shop.event("c", 10, 1, 0, table="parents"))
    shop.run(
        shop.event("c", 20, 2, 0, table="parents"),
        shop.event("c", 21, 1, 1),
        shop.event("c", 22, 2, 2),
        shop.event("c", 23, 3, 3),
        shop.event("c", 24, 4, None),
    )
    assert sorted(shop.rows()) == [1, 2, 4]
    assert [rule for _, rule, _ in shop.quarantined()] == ["v_references"]
    shop.run(shop.event("c", 30, 3, 0, table="parents"))
    assert [outcome for _, outcome in shop.outcomes(shop.ask())] == ["replayed"]
    assert sorted(shop.rows()) == [1, 2, 3, 4]


def test_duplicate_of_a_business_key_is_the_later_row(shop: Shop) -> None:
    shop.contract("[columns.v]\nunique = true\naction = 'quarantine'")
    shop.run(shop.event("c", 10, 1, 7), shop.event("c", 11, 2, 8), shop.event("c", 12, 3, 8))
    assert sorted(shop.rows()) == [1, 2]
    shop.run(shop.event("c", 20, 4, 7), shop.event("c", 21, 5, 9))
    assert sorted(shop.rows()) == [1, 2, 5]
    shop.run(shop.event("u", 30, 1, 9), shop.event("u", 31, 5, 7))
    assert {key: v for key, (v, _) in shop.rows().items()} == {1: 9, 2: 8, 5: 7}, "a swap is none"


def test_upkeep_removes_what_was_resolved_long_ago_and_nothing_that_is_open(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.contract(POSITIVE + "[columns.big]\nvalues = ['x']\naction = 'warn'")
    shop.run(shop.event("c", 10, 1, -5), shop.event("c", 11, 2, -5), shop.event("c", 12, 3, 5))
    shop.run(shop.event("d", 20, 1))
    quarantine, breaches = shop.runner.steps.gate.quarantine, shop.breaches
    finish(maintain_ops(shop.lake, quarantine))
    assert [status for _, _, status in shop.quarantined()] == ["superseded", "open"]
    monkeypatch.setattr("spark_streaming.quarantine.quarantine.RESOLVED_KEPT", timedelta(0))
    monkeypatch.setattr("spark_streaming.ops.breaches.KEPT", timedelta(0))
    for table in (quarantine, breaches):
        finish(maintain_ops(shop.lake, table))
    assert [status for _, _, status in shop.quarantined()] == ["open"]
    assert len(breaches.ensure().to_pyarrow_table()) == 0
    shop.run(shop.event("c", 30, 4, -5))
    assert len(shop.quarantined()) == 2


def test_fail_rule_stops_its_table_only_and_it_goes_on_where_it_stopped(shop: Shop) -> None:
    shop.contract("[columns.v]\nmin = 1\naction = 'fail'")
    shop.run(shop.event("c", 10, 1, 5))
    rows = shop.run(
        shop.event("c", 20, 2, 6),
        shop.event("c", 21, 3, -6),
        shop.event("c", 22, 1, 0, table="parents"),
    )
    told = {row.table_name: row for row in rows}
    stopped = told[f"{shop.schema}__items"]
    assert stopped.state == "stopped"
    assert '1 row(s) break rule `v_range` ("v" >= 1): id = 3' in (stopped.reason or "")
    assert (shop.rows(), list(shop.rows("parents"))) == ({1: (5, "b")}, [1])
    shop.run(shop.event("c", 30, 4, 7), shop.event("c", 31, 2, 0, table="parents"))
    assert (sorted(shop.rows()), sorted(shop.rows("parents"))) == ([1], [1, 2])
    assert shop.quarantined() == []
    shop.contract("[columns.v]\nmin = 1\naction = 'quarantine'")
    shop.restart()
    shop.catch_up()
    assert shop.rows() == {1: (5, "b"), 2: (6, "b"), 4: (7, "b")}
    assert [rule for _, rule, _ in shop.quarantined()] == ["v_range"]
    shop.run(shop.event("d", 2_000, 3))
    assert [status for _, _, status in shop.quarantined()] == ["superseded"]


def test_wrong_contract_file_stops_its_table_with_the_line_until_it_is_repaired(shop: Shop) -> None:
    shop.contract("[columns.w]\nmin = 1")
    rows = shop.run(shop.event("c", 10, 1, 5), shop.event("c", 11, 1, 0, table="parents"))
    reason = {row.table_name: row.reason for row in rows}[f"{shop.schema}__items"] or ""
    assert f"{shop.schema}.items.toml:1: there is no column `w`" in reason
    shop.contract("[columns.v]\nmin = 1")
    shop.restart()
    shop.catch_up()
    assert shop.rows() == {1: (5, "b")}


def test_reference_with_fail_stops_the_table_before_anything_is_written(shop: Shop) -> None:
    target = f"{shop.schema}.parents.id"
    shop.contract(f"[columns.v]\nreferences = '{target}'\naction = 'fail'")
    shop.run(shop.event("c", 10, 1, 0, table="parents"))
    rows = shop.run(shop.event("c", 20, 1, 1), shop.event("c", 21, 2, 9))
    assert {row.table_name: row.state for row in rows}[f"{shop.schema}__items"] == "stopped"
    assert shop.rows() == {}
