"""The rows of the store, and the operations that a workload chooses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table

from app.errors import HeadwaterError
from app.store.tables import make, schema, vocabulary
from app.store.tables.seed import Sizes
from app.store.tables.store_connection import engine_for
from app.store.workload.load_tables import BenchWorkload
from app.store.workload.operations import OPERATIONS
from app.store.workload.store_workload import choose

# Never used for a connection.
DSN = "postgresql://me@localhost/store"
AT = datetime(2026, 5, 17, 12, tzinfo=timezone.utc)
ITEMS = [make.Item(3, Decimal("9.99"), 2), make.Item(8, Decimal("0.01"), 1)]


def assert_fills(table: Table, row: Mapping[str, object]) -> None:
    assert list(row) == [column.name for column in table.columns]
    for column in table.columns:
        assert column.nullable or row[column.name] is not None, column.name


@given(st.integers())
def test_rows_hold_every_column_of_their_table(seed: int) -> None:
    rng = Random(seed)
    assert_fills(schema.customers, make.customer(rng, 1, AT))
    assert_fills(schema.movies, make.movie(rng, 1, AT))
    assert_fills(schema.ratings, make.rating(rng, 1, 2, AT))
    rows = make.order(rng, 7, 1, "FR", ITEMS, AT, "paid")
    assert_fills(schema.orders, rows.order)
    for line in rows.lines:
        assert_fills(schema.order_lines, line)
    assert rows.invoice is not None
    assert_fills(schema.invoices, rows.invoice)
    [payment] = rows.payments
    assert_fills(schema.payments, payment)


def test_the_same_seed_makes_the_same_row() -> None:
    assert make.movie(Random(3), 1, AT) == make.movie(Random(3), 1, AT)
    assert make.movie(Random(3), 1, AT) != make.movie(Random(4), 1, AT)


def test_an_order_adds_up_to_the_cent() -> None:
    rows = make.order(Random(1), 7, 1, "FR", ITEMS, AT, "paid")
    assert rows.order["total"] == Decimal("19.99")
    assert rows.invoice is not None
    assert rows.invoice["gross"] == Decimal("23.99")  # 20 % of 19.99 is 3.998
    assert rows.payments[0]["amount"] == Decimal("23.99")


@pytest.mark.parametrize(
    ("status", "invoiced", "paid"),
    [("pending", True, False), ("paid", True, True), ("cancelled", False, False)],
)
def test_an_order_is_billed_and_paid_by_its_state(status: str, invoiced: bool, paid: bool) -> None:
    rows = make.order(Random(1), 7, 1, "US", ITEMS, AT, status)
    assert (rows.invoice is not None, bool(rows.payments)) == (invoiced, paid)


def test_stars_are_halves_from_a_half_to_five() -> None:
    rng = Random(1)
    seen = {make.rating(rng, c, m, AT)["stars"] for c in range(1, 50) for m in range(1, 41)}
    assert seen == {Decimal(half) / 2 for half in range(1, 11)}


def test_most_descriptions_are_too_long_for_a_row_of_their_own_page() -> None:
    rng = Random(1)
    lengths = [len(vocabulary.description(rng) or "") for _ in range(400)]
    assert sum(length > 2_100 for length in lengths) > 200
    assert 0 in lengths


def test_texts_hold_what_people_type() -> None:
    rng = Random(1)
    text = "".join(vocabulary.sentence(rng) for _ in range(500))
    assert {"\n", "\t", "\\", "é", "🎬", "東", "“", "%"} <= set(text)


def test_addresses_do_not_repeat() -> None:
    rng = Random(1)
    assert len({vocabulary.email(rng, "Zoë 山田") for _ in range(5_000)}) == 5_000


def test_sizes_scale_and_stay_within_reason() -> None:
    assert Sizes.scaled(1) == Sizes()
    assert Sizes.scaled(0.1).movies == 100
    for scale in (0, -1, 1_001):
        with pytest.raises(HeadwaterError, match="out of range"):
            Sizes.scaled(scale)


def test_a_workload_keeps_to_the_given_tables() -> None:
    chosen, _ = choose({"ratings"}, None)
    assert {operation.name for operation in chosen} == {
        "rate_movie",
        "change_rating",
        "delete_rating",
    }
    everything, _ = choose(None, None)
    assert everything == list(OPERATIONS)


def test_a_mix_replaces_the_weights() -> None:
    chosen, weights = choose(None, {"tag_movie": 3, "rate_movie": 1, "untag_movie": 0})
    assert [operation.name for operation in chosen] == ["rate_movie", "tag_movie"]
    assert weights == [1, 3]


@pytest.mark.parametrize(
    ("tables", "mix", "message"),
    [
        ({"film"}, None, "unknown table `film`"),
        (None, {"sell": 1}, "unknown operation `sell`"),
        ({"invoices"}, None, "no operation writes only these tables"),
        (None, {"rate_movie": -1}, "a weight of the mix is negative"),
    ],
)
def test_a_wrong_choice_is_named(
    tables: set[str] | None, mix: dict[str, int] | None, message: str
) -> None:
    with pytest.raises(HeadwaterError, match=message):
        choose(tables, mix)


@pytest.mark.parametrize("dsn", ["mysql://me:hunter2@db/store", "host=db password=hunter2"])
def test_a_wrong_dsn_is_refused_without_showing_it(dsn: str) -> None:
    with pytest.raises(HeadwaterError) as failed:
        engine_for(dsn)
    assert "hunter2" not in str(failed.value)
    assert "postgresql://" in failed.value.hint


def test_an_engine_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(engine_for("postgresql://me:hunter2@localhost/store"))


@pytest.mark.parametrize("mix", [{}, {"upsert": 1}, {"insert": -1, "update": 2}])
def test_a_wrong_bench_mix_is_refused(mix: dict[str, int]) -> None:
    with pytest.raises(HeadwaterError, match="the mix is not understood"):
        BenchWorkload(engine_for(DSN), mix=mix)


@pytest.mark.parametrize("tables", [0, 65])
def test_a_wrong_number_of_bench_tables_is_refused(tables: int) -> None:
    with pytest.raises(HeadwaterError, match="tables must be 1 to 64"):
        BenchWorkload(engine_for(DSN), tables=tables)
