"""Sizing: the formulae on workloads with known answers, the user's prices, the page's table."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deploy.sizing.coefficients import read_coefficients
from app.deploy.sizing.demand import Workload, at, batch_of, cores_of, hit, kafka_bytes, store_use
from app.deploy.sizing.prices import PRICES, read_prices
from app.deploy.sizing.scales import table
from app.deploy.sizing.sizes import FRESHNESS_S, HOURS_A_MONTH, carries, greatest, size
from app.environment.settings import ROOT
from app.environment.toml_files import SettingsError
from tests.support.command import headwater

FOUND = read_coefficients()
MONEY = read_prices()
LOAD = Workload(
    changes_per_second=200,
    tables=20,
    row_bytes=200,
    retention_days=30,
    rows=200_000,
    active_rows=200_000,
    cores=4,
)
GIVEN = ["--changes-per-second", "200", "--tables", "20", "--row-bytes", "200", "--retention", "30"]


def test_a_batch_lasts_as_long_as_its_own_changes_need() -> None:
    batch = batch_of(LOAD, FOUND)
    one = FOUND.batches
    needed = one.fixed_s.value + batch.tables * one.table_s.value
    needed += batch.rewritten_bytes / 1e6 * one.rewritten_mb_cpu_s.value / LOAD.cores
    needed += 200 * batch.every_s * one.change_s.value
    assert batch.seconds == pytest.approx(needed, rel=1e-4)


def test_one_change_now_and_then_is_a_batch_of_its_own() -> None:
    batch = batch_of(at(LOAD, 0.01), FOUND)
    assert batch.every_s == pytest.approx(100, rel=0.01)
    assert batch.tables == pytest.approx(1, rel=0.05)


def test_more_changes_than_silver_merges_make_batches_that_grow_for_ever() -> None:
    too_many = 1.1 / FOUND.batches.change_s.value
    assert math.isinf(batch_of(at(LOAD, too_many), FOUND).seconds)
    assert math.isinf(cores_of("silver", at(LOAD, too_many), FOUND))


def test_a_table_whose_changes_fall_into_few_rows_is_cheaper_than_one_changed_everywhere() -> None:
    large = replace(LOAD, rows=50_000_000, active_rows=50_000_000)
    everywhere, newest = batch_of(large, FOUND), batch_of(replace(large, active_rows=50_000), FOUND)
    assert newest.rewritten_bytes < everywhere.rewritten_bytes / 5
    assert newest.seconds < everywhere.seconds


@given(rate=st.floats(0.1, 2_000), factor=st.floats(1.01, 4), tables=st.integers(1, 500))
def test_more_changes_never_take_less(rate: float, factor: float, tables: int) -> None:
    less = replace(LOAD, changes_per_second=rate, tables=tables)
    more = at(less, rate * factor)
    assert batch_of(more, FOUND).seconds >= batch_of(less, FOUND).seconds * (1 - 1e-3)
    assert kafka_bytes(more, FOUND.bytes, 3) > kafka_bytes(less, FOUND.bytes, 3)
    for part in FOUND.parts:
        # Silver works in batches, so fewer and larger ones may take less, also in the store.
        if part not in ("silver", "store"):
            assert cores_of(part, more, FOUND) >= cores_of(part, less, FOUND)


@given(throws=st.floats(0, 1e6), places=st.integers(1, 10_000))
def test_no_more_places_are_hit_than_there_are_throws_or_places(throws: float, places: int) -> None:
    assert 0 <= hit(throws, places) <= min(throws, places) + 1e-9


def test_bronze_holds_what_came_in_its_retention() -> None:
    use = store_use(replace(LOAD, row_bytes=41, retention_days=2), FOUND)
    sizes = FOUND.bytes
    a_second = 200 * sizes.bronze_per_change.value
    a_second += hit(200, 20) * sizes.bronze_per_object.value  # one object for each busy topic
    assert use.bronze_bytes == pytest.approx(2 * 86_400 * a_second)


def test_an_instance_carries_the_rate_up_to_which_it_keeps_up() -> None:
    carried = carries("silver", LOAD, FOUND, MONEY)
    assert batch_of(at(LOAD, carried * 0.99), FOUND).seconds <= FRESHNESS_S
    beyond = at(LOAD, carried * 1.05)
    used = MONEY.node.cores * MONEY.node.cores_used_max
    full = batch_of(beyond, FOUND).seconds > FRESHNESS_S
    assert full or cores_of("silver", beyond, FOUND) > used


def test_the_greatest_rate_is_found_by_halving() -> None:
    assert greatest(lambda rate: rate <= 1_234) == pytest.approx(1_234)
    assert greatest(lambda rate: False) == pytest.approx(0, abs=1e-6)
    assert math.isinf(greatest(lambda rate: True))


def test_kafka_has_three_brokers_where_one_node_is_not_enough() -> None:
    small = size(LOAD, FOUND, MONEY)
    node = MONEY.node.model_copy(update={"memory_gib": 2.0})
    large = size(LOAD, FOUND, MONEY.model_copy(update={"node": node}))
    assert (small.nodes, small.replicas) == (1, 1)
    assert large.nodes >= 3
    [one] = [part for part in small.parts if part.part == "kafka"]
    [three] = [part for part in large.parts if part.part == "kafka"]
    assert three.instances == 3
    assert three.disk_gib == pytest.approx(3 * one.disk_gib)


def test_the_cost_follows_the_prices() -> None:
    dear = MONEY.model_copy(update={"node": MONEY.node.model_copy(update={"per_hour": 7.0})})
    found, other = size(LOAD, FOUND, MONEY), size(LOAD, FOUND, dear)
    assert other.cost["nodes"] == pytest.approx(7.0 * HOURS_A_MONTH * other.nodes)
    assert {**other.cost, "nodes": 0} == {**found.cost, "nodes": 0}


def test_every_figure_names_its_source() -> None:
    for part in FOUND.parts.values():
        assert part.remedy
        assert len(part.idle_cores.source) > 10


def test_the_page_has_the_table_that_the_figures_give() -> None:
    computed = table(FOUND, MONEY)
    assert computed in (ROOT / "docs" / "scale.md").read_text(), (
        "docs/scale.md is stale; its table: python -m app.deploy scales"
    )


def test_the_command_prints_a_row_a_part_and_one_for_all(tmp_path: Path) -> None:
    answer = json.loads(headwater("size", *GIVEN, "-F", "json", home=tmp_path).stdout)
    assert [row["part"] for row in answer] == [*FOUND.parts, "all"]
    assert answer[-1]["cost_per_month"] > 0
    assert sum("the first to break" in row["note"] for row in answer) == 1
    text = headwater("size", *GIVEN, "-F", "csv", home=tmp_path).stdout
    assert [row["part"] for row in csv.DictReader(io.StringIO(text))] == [*FOUND.parts, "all"]
    assert list(tmp_path.iterdir()) == []


def test_a_users_prices_count_and_a_wrong_key_is_named(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(PRICES.read_text().replace('"USD"', '"EUR"'))
    answer = json.loads(
        headwater("size", *GIVEN, "--prices", str(mine), "-F", "json", home=tmp_path).stdout
    )
    assert answer[-1]["note"].startswith("EUR;")
    mine.write_text(PRICES.read_text().replace("per_hour", "per_day"))
    ended = headwater("size", *GIVEN, "--prices", str(mine), home=tmp_path)
    assert ended.returncode == 1
    assert f"{mine} does not hold what is expected" in ended.stderr
    assert "node.per_day" in ended.stderr
    with pytest.raises(SettingsError, match="no such file"):
        read_prices(tmp_path / "none.toml")
