"""Both merge engines have the same effect on a table, for any batch."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.events.envelope import HighWater, RawEvent, decode
from spark_streaming.fold.keyed import Folded, fold
from spark_streaming.fold.row_lookup import keys_in, present_keys, values_of
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engine_protocol import Commit, MergeEngine
from spark_streaming.tables.engines.spark_merge import SparkEngine
from spark_streaming.tables.silver_table import SilverTable, TableOptions
from tests.spark.conftest import MakeTable
from tests.support.folded import AT, rows
from tests.support.shrink import check_history, random_of
from tests.unit.debezium_events import event
from tests.unit.model import BAG, KEYED, Source, split

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HISTORY_STEPS, SNAPSHOT_AT = 90, 30


def content(table: SilverTable) -> Counter[tuple[Any, ...]]:
    """The table's rows in the store, without metadata, counted."""
    names = [column.name for column in table.contract.columns]
    found = table.lake.table(table.path).to_pyarrow_dataset().to_table(columns=names)
    return Counter(keys_in(found, names))


def film(number: int, note: str | None = None, big: str | None = None) -> dict[str, Any]:
    return {"id": number, "note": note, "big": big}


def test_upserts_and_deletes_meet_their_rows(engine: MergeEngine, make_table: MakeTable) -> None:
    table = make_table(KEYED)
    engine.merge(table, Folded(rows(KEYED, film(1, "a"), film(2, "b"))), Commit("t", 1))
    change = rows(
        KEYED, film(1, "A"), {**film(2), "_op": "d"}, film(3, "c"), {**film(9), "_op": "d"}
    )
    result = engine.merge(table, Folded(change), Commit("t", 2))
    assert content(table) == Counter([(1, "A", None), (3, "c", None)])
    assert (result.inserted, result.updated, result.deleted) == (1, 1, 1)
    assert (result.upserted, result.skipped) == (2, False)
    assert result.delta_version == table.lake.table(table.path).version()


def test_repeated_batch_changes_nothing(engine: MergeEngine, make_table: MakeTable) -> None:
    table = make_table(KEYED)
    engine.merge(table, Folded(rows(KEYED, film(1, "a"))), Commit("t", 7))
    table.forget()
    again = engine.merge(table, Folded(rows(KEYED, film(1, "other"))), Commit("t", 7))
    assert again.skipped
    assert content(table) == Counter([(1, "a", None)])


def test_other_query_is_not_mistaken_for_a_repeat(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    table = make_table(KEYED)
    engine.merge(table, Folded(rows(KEYED, film(1, "a"))), Commit("first", 7))
    engine.merge(table, Folded(rows(KEYED, film(1, "b"))), Commit("second", 1))
    assert content(table) == Counter([(1, "b", None)])


def test_row_that_is_newer_in_silver_stays(engine: MergeEngine, make_table: MakeTable) -> None:
    table = make_table(KEYED)
    engine.merge(table, Folded(rows(KEYED, {**film(1, "streamed"), "_lsn": 200})), Commit("t", 1))
    snapshot = {**film(1, "snapshot"), "_lsn": 150, "_guard_lsn": 150}
    engine.merge(table, Folded(rows(KEYED, snapshot)), Commit("t", 2))
    assert content(table) == Counter([(1, "streamed", None)])


def test_kept_column_stays_and_others_change(engine: MergeEngine, make_table: MakeTable) -> None:
    table = make_table(KEYED)
    engine.merge(
        table, Folded(rows(KEYED, film(1, "a", "BIG"), film(2, "b", "B2"))), Commit("t", 1)
    )
    change = rows(
        KEYED,
        {**film(1, "a2"), "_keep_big": True},
        film(2, "b2", "new"),
        {**film(3, "no row of this key"), "_keep_big": True},
        keeps=("big",),
    )
    engine.merge(table, Folded(change), Commit("t", 2))
    assert content(table) == Counter([(1, "a2", "BIG"), (2, "b2", "new")])


def test_truncate_and_what_follows_it_are_one_commit(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    table = make_table(KEYED)
    engine.merge(table, Folded(rows(KEYED, film(1, "old"), film(2, "old"))), Commit("t", 1))
    before = table.lake.table(table.path).version()
    after = rows(KEYED, {**film(2, "new"), "_lsn": 300}, {**film(3, "new"), "_lsn": 300})
    engine.merge(table, Folded(after, truncate_lsn=Lsn(200)), Commit("t", 2))
    assert content(table) == Counter([(2, "new", None), (3, "new", None)])
    assert table.lake.table(table.path).version() == before + 1


def test_truncate_alone_empties_the_table(engine: MergeEngine, make_table: MakeTable) -> None:
    for contract in (KEYED, BAG):
        table = make_table(contract)
        engine.merge(table, Folded(rows(contract, _first(contract))), Commit("t", 1))
        engine.merge(table, Folded(rows(contract), truncate_lsn=Lsn(200)), Commit("t", 2))
        assert content(table) == Counter()
        assert engine.merge(
            table, Folded(rows(contract), truncate_lsn=Lsn(200)), Commit("t", 2)
        ).skipped


def _first(contract: Contract) -> dict[str, Any]:
    return {**film(1, "a"), "_op": "i" if contract.is_keyless else "u"}


def test_one_of_three_equal_copies_goes(engine: MergeEngine, make_table: MakeTable) -> None:
    table = make_table(BAG)
    copy = {**film(1, None, "x"), "_op": "i"}
    engine.merge(
        table, Folded(rows(BAG, copy, copy, copy, {**film(2), "_op": "i"})), Commit("t", 1)
    )
    change = rows(BAG, {**copy, "_op": "d"}, {**film(4), "_op": "i"})
    result = engine.merge(table, Folded(change), Commit("t", 2))
    expected = Counter({(1, None, "x"): 2, (2, None, None): 1, (4, None, None): 1})
    assert content(table) == expected
    assert (result.inserted, result.updated, result.deleted) == (1, 0, 1)


def test_removal_of_a_copy_that_silver_lacks_changes_nothing_and_is_counted(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    table = make_table(BAG)
    lost = {**film(1, "lost"), "_op": "d"}
    first = engine.merge(table, Folded(rows(BAG, lost)), Commit("t", 1))
    assert content(table) == Counter()
    beside = rows(BAG, lost, lost, {**film(2, "there"), "_op": "i"})
    second = engine.merge(table, Folded(beside), Commit("t", 2))
    assert content(table) == Counter([(2, "there", None)])
    assert [(r.inserted, r.deleted, r.missing) for r in (first, second)] == [(0, 0, 1), (1, 0, 2)]
    truncated = engine.merge(table, Folded(rows(BAG, lost), truncate_lsn=Lsn(500)), Commit("t", 3))
    assert content(table) == Counter()
    assert (truncated.deleted, truncated.missing) == (1, 1)


def test_copies_of_a_random_history_with_losses_are_what_is_left(
    engine: MergeEngine, make_table: MakeTable, seed: int
) -> None:
    random, table, left = random_of(seed, 0), make_table(BAG), Counter[tuple[Any, ...]]()
    for version in range(8):
        changes = []
        for number in range(4):
            note = random.choice(["a", None])
            count = random.choice([-3, -2, -1, 0, 0, 1, 2])  # also removals of rows that never came
            changes += [{**film(number, note), "_op": "i" if count > 0 else "d"}] * abs(count)
            lacking = max(0, -count - left[number, note, None])
            left[number, note, None] += count + lacking
        engine.merge(table, Folded(rows(BAG, *changes)), Commit("t", version))
        assert content(table) == +left


def test_copies_go_by_the_columns_that_the_source_still_has(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    table = make_table(BAG)
    copies = [film(1, "a", "x"), film(1, "a", "y"), film(2, "b", "x")]
    engine.merge(table, Folded(rows(BAG, *({**c, "_op": "i"} for c in copies))), Commit("t", 1))
    big = replace(BAG.columns[2], dropped=True)  # silver keeps its old values
    table.contract = replace(BAG, columns=(*BAG.columns[:2], big))
    change = rows(BAG, {**film(1, "a"), "_op": "d"}, {**film(2, "b"), "_op": "d"})
    engine.merge(table, Folded(change), Commit("t", 2))
    assert [row[:2] for row in content(table).elements()] == [(1, "a")]


def test_copies_of_text_go_from_files_that_a_merge_has_written(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    table = make_table(BAG)
    copies = [{**film(1, "a"), "_op": "i"}] * 3 + [{**film(2, "b"), "_op": "i"}]
    # A snapshot is merged, and a merge's files have another physical type for text than an append's.
    engine.merge(table, Folded(rows(BAG, *copies), resnapshot_lsn=Lsn(50)), Commit("t", 1))
    for version in (2, 3):
        change = rows(BAG, {**film(1, "a"), "_op": "d"})
        engine.merge(table, Folded(change), Commit("t", version))
    assert content(table) == Counter({(1, "a", None): 1, (2, "b", None): 1})


def test_rows_with_text_keys_are_found_in_files_that_a_merge_has_written(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    contract = Contract("public", "named", (Column("name", "text", "text", False),), ("name",))
    table = make_table(contract)
    for version, name in enumerate(("a", "b"), 1):
        engine.merge(table, Folded(rows(contract, {"name": name})), Commit("t", version))
    assert present_keys(table, [("a",), ("c",)]) == {("a",)}


ARRAY_KEYED = Contract(
    "public",
    "tagged",
    (
        Column("tags", "text[]", "array", nullable=False, element="text", base_type="text"),
        Column("big", "text", "text", toastable=True, base_type="text"),
    ),
    key=("tags",),
)


def test_a_large_value_that_an_update_leaves_out_is_found_by_a_key_that_is_an_array(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    def change(op: str, lsn: int, tags: list[str], big: str, old: Any = None) -> RawEvent:
        after = {"tags": tags, "big": big}
        headers = None if old is None else {"oldkey": {"tags": old}}
        return event(op, lsn=lsn, commit=lsn - 1, key={"tags": tags}, after=after, headers=headers)

    table, left_out = make_table(ARRAY_KEYED), "__debezium_unavailable_value"
    inserts = [change("c", 10, ["a", "b"], "one"), change("c", 11, ["c"], "two")]
    delete = event("d", lsn=30, commit=29, order=1, key={"tags": ["c"]}, before={"tags": ["c"]})
    moved = change("c", 30, ["d"], left_out, ["c"])
    moved = moved._replace(
        value=(moved.value or b"").replace(b'order": 1', b'order": 2'), offset=31
    )
    _merge_all(engine, table, [inserts, [change("u", 20, ["a", "b"], left_out)], [delete, moved]])
    assert content(table) == Counter([(("a", "b"), "one"), (("d",), "two")])


def test_snapshot_of_a_bag_replaces_what_was_there(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    table = make_table(BAG)
    old = {**film(1, "old"), "_op": "i"}
    engine.merge(table, Folded(rows(BAG, old, old)), Commit("t", 1))
    new = [{**film(1, note), "_op": "i", "_lsn": 500} for note in ("old", "new")]
    engine.merge(table, Folded(rows(BAG, *new), resnapshot_lsn=Lsn(500)), Commit("t", 2))
    assert content(table) == Counter([(1, "old", None), (1, "new", None)])


ODD_NAMES = Contract(
    "public",
    "odd",
    (
        Column("Id", "integer", "int32", nullable=False),
        Column("order by", "text", "text"),
        Column("naïve-$", "text", "text"),
    ),
    key=("Id",),
)


def test_keys_and_columns_may_have_any_name(engine: MergeEngine, make_table: MakeTable) -> None:
    contract = ODD_NAMES
    columns = tuple(c for c in contract.columns if " " not in c.name)
    contract = Contract("public", "odd", columns, key=("Id",))
    table = make_table(contract)
    for version, value in enumerate(["it's", 'a "quoted" \\ one']):
        row = {"Id": 1, "naïve-$": value}
        engine.merge(table, Folded(rows(contract, row)), Commit("t", version))
        assert content(table) == Counter([(1, value)])


def test_text_keys_of_any_content_meet_their_rows(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    columns = (Column("a", "text", "text", nullable=False), Column("b", "date", "date"))
    contract = Contract("public", "keys", (*columns, Column("v", "int", "int32")), key=("a", "b"))
    table = make_table(contract)
    keys = ["", "'", "ÿ", "z" * 200, "\\", "日本", "\U0001f600"]
    for version, value in enumerate([1, 2]):
        given = [{"a": key, "b": AT.date(), "v": value} for key in keys]
        engine.merge(table, Folded(rows(contract, *given)), Commit("t", version))
    assert content(table) == Counter([(key, AT.date(), 2) for key in keys])


@pytest.mark.parametrize("contract", [KEYED, BAG], ids=["keyed", "bag"])
def test_random_history_ends_in_the_sources_rows(
    engine: MergeEngine, make_table: MakeTable, contract: Contract, seed: int
) -> None:
    def play(steps: Sequence[int]) -> None:
        source = _played(seed, steps, contract)
        events, random = source.finish(), random_of(seed, HISTORY_STEPS)
        table = make_table(contract)
        _merge_all(engine, table, split(events, random))
        assert content(table) == source.content()

    check_history(seed, HISTORY_STEPS, play)


def _played(seed: int, steps: Sequence[int], contract: Contract) -> Source:
    """Transactions before, around and after the first snapshot."""
    # The topic of a table without a key has one partition: see the README.
    partitions = 1 if contract.is_keyless else 2
    source = Source(random_of(seed, HISTORY_STEPS), contract, partitions)
    is_read = False
    for step in steps:
        if step >= SNAPSHOT_AT and not is_read:
            is_read = True
            source.snapshot(first=True)
        random = source.random = random_of(seed, step)
        source.step()
        if is_read and random.random() < 0.3:
            source.send()
        if is_read and random.random() < 0.1 and not contract.is_keyless:
            source.replay()
    return source


def _merge_all(engine: MergeEngine, table: SilverTable, batches: list[list[RawEvent]]) -> None:
    contract, high_water = table.contract, HighWater()
    for version, batch in enumerate(batches):
        decoded = decode(batch, contract, high_water)
        folded = fold(
            decoded.changes,
            contract,
            lambda keys: values_of(table, keys),
            lambda keys: present_keys(table, keys),
        )
        assert [r.reason for r in [*decoded.rejects, *folded.rejects]] == []
        if len(folded.rows) or folded.truncate_lsn or folded.resnapshot_lsn:
            engine.merge(table, folded, Commit("t", version))
        high_water = high_water.merge(decoded.high_water)


def test_frame_of_rows_meets_text_and_date_keys(spark: SparkSession, make_table: MakeTable) -> None:
    columns = (Column("a", "text", "text", nullable=False), Column("b", "date", "date"))
    contract = Contract("public", "keys", (*columns, Column("v", "int", "int32")), key=("a", "b"))
    table, engine = make_table(contract), SparkEngine(spark)
    keys = ["", "'", "ÿ", "z" * 200, "\\", "日本", "\U0001f600"]
    for version, value in enumerate([1, 2]):
        given = rows(contract, *[{"a": key, "b": AT.date(), "v": value} for key in keys])
        bounds = {"a": (min(keys), max(keys)), "b": (AT.date(), AT.date())}
        frame = spark.createDataFrame(given)
        commit = Commit("t", version)
        result = engine.merge_rows(table, frame, commit, count=len(keys), bounds=bounds)
        assert (result.upserted, result.deleted) == (len(keys), 0)
    assert content(table) == Counter([(key, AT.date(), 2) for key in keys])


def test_letters_beyond_ascii_in_names_of_tables_and_columns_stay(
    engine: MergeEngine, lake: Lake
) -> None:
    odd = ("größe_in_m", "имя", "smile\N{GRINNING FACE}")
    columns = (
        Column("id", "integer", "int32", nullable=False),
        *(Column(name, "text", "text") for name in odd),
    )
    name = f"ünï__заказы\N{GRINNING FACE}_{uuid.uuid4().hex[:8]}"
    table = SilverTable(lake, name, Contract("ünï", "x", columns, key=("id",)), TableOptions())
    assert table.ensure()
    first = {"id": 1, odd[0]: "a", odd[1]: "ж", odd[2]: "c"}
    engine.merge(table, Folded(rows(table.contract, first, {**first, "id": 2})), Commit("t", 1))
    change = rows(table.contract, {**first, odd[1]: "new"}, {**first, "id": 2, "_op": "d"})
    engine.merge(table, Folded(change), Commit("t", 2))
    assert content(table) == Counter([(1, "a", "new", "c")])
    found = lake.filesystem().get_file_info(f"silver/{name}/_delta_log/{0:020d}.json")
    assert found.is_file, "every reader finds the table by its name"
