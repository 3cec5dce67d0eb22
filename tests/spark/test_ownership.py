"""Of two source tables with one silver name the first keeps it, also after restarts, on the real store."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import write_deltalake

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.names import ascii_silver_table
from spark_streaming.ops.ledger import LedgerRow
from spark_streaming.ops.stopped import REFUSED, RUNNING
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from spark_streaming.tables.ownership import SOURCE, mark
from spark_streaming.tables.silver_table import TableOptions
from tests.spark.shop import COLUMNS, NO_SOURCE, Shop


@pytest.fixture
def shop(lake: Lake, tmp_path: Path) -> Shop:
    """The source has `items` and also `Items`, whose contract was stored, too."""
    shop = Shop(lake, ArrowEngine(), tmp_path)
    store = ContractStore(lake, NO_SOURCE)
    store.keep(Contract(shop.schema, "Items", COLUMNS, key=("id",), oid=2))
    store.keep(Contract(shop.schema, "items", COLUMNS, key=("id",), oid=1))
    return shop


def states(rows: list[LedgerRow]) -> dict[str, str]:
    return {row.table_name: row.state for row in rows if row.table_name}


def test_after_a_restart_the_table_that_had_the_name_first_still_has_it(shop: Shop) -> None:
    shop.run(shop.event("c", 100, 1, 1))
    shop.restart()
    other = shop.run(shop.event("c", 110, 2, 2, table="Items"))
    assert states(other) == {f"{shop.schema}.Items": REFUSED}
    assert f"source table {shop.schema}.items, which has it" in str(other[0].refusal)
    rows = shop.run(shop.event("c", 120, 3, 3), shop.event("c", 130, 4, 4, table="Items"))
    assert states(rows) == {f"{shop.schema}__items": RUNNING, f"{shop.schema}.Items": REFUSED}
    assert shop.rows() == {1: (1, "b"), 3: (3, "b")}


def write_as_earlier_release(shop: Shop, path: str) -> None:
    """The table as the first releases made it, without a recorded source table."""
    rows, properties = shop.lake.table(path).to_pyarrow_table(), TableOptions().properties()
    shop.lake.filesystem().delete_dir(path)
    write_deltalake(
        shop.lake.url(path),
        rows,
        configuration=properties,
        storage_options=shop.lake.storage_options(),
    )


def test_a_table_of_an_earlier_release_is_the_older_source_tables(shop: Shop) -> None:
    shop.run(shop.event("c", 100, 1, 1))
    path = shop.lake.silver_path(shop.table)
    write_as_earlier_release(shop, path)
    shop.restart()
    assert states(shop.run(shop.event("c", 110, 2, 2, table="Items"))) == {
        f"{shop.schema}.Items": REFUSED
    }
    shop.run(shop.event("c", 120, 3, 3))
    assert shop.lake.table(path).metadata().configuration[SOURCE] == mark(shop.schema, "items")
    assert shop.rows() == {1: (1, "b"), 3: (3, "b")}


def test_a_schema_with_a_dot_has_the_same_silver_table_after_a_restart(shop: Shop) -> None:
    before = shop.schema
    shop.schema = f"{before}.x"
    ContractStore(shop.lake, NO_SOURCE).keep(Contract(shop.schema, "t", COLUMNS, key=("id",)))
    shop.run(shop.event("c", 100, 1, 1, table="t"))
    shop.restart()
    shop.schema = before
    shop.run(shop.event("c", 105, 1, 1))  # reads the tables of earlier processes
    shop.schema = f"{before}.x"
    shop.run(shop.event("c", 110, 2, 2, table="t"))
    path = f"silver/{before}_x__t"
    assert shop.lake.table(path).to_pyarrow_table()["id"].to_pylist() in ([1, 2], [2, 1])
    assert not shop.lake.exists(f"silver/{before}__x_t")


def test_a_table_of_an_earlier_release_keeps_its_name_and_a_new_one_keeps_its_letters(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, store = Shop(lake, ArrowEngine(), tmp_path), ContractStore(lake, NO_SOURCE)
    for number, table in enumerate(("täble", "tüble")):
        store.keep(Contract(shop.schema, table, COLUMNS, key=("id",), oid=number))
    with monkeypatch.context() as earlier:
        earlier.setattr("spark_streaming.tables.silver_names.silver_table", ascii_silver_table)
        rows = shop.run(shop.event("c", 100, 1, 1, table="täble"))
    assert states(rows) == {f"{shop.schema}__t_ble": RUNNING}
    shop.restart()
    shop.offset = 50
    rows = shop.run(shop.event("c", 110, 2, 2, table="täble"))
    assert states(rows) == {f"{shop.schema}__t_ble": RUNNING}
    assert shop.rows("t_ble") == {1: (1, "b"), 2: (2, "b")}
    rows = shop.run(shop.event("c", 120, 3, 3, table="tüble"))
    assert states(rows) == {f"{shop.schema}__tüble": RUNNING}
    assert shop.rows("tüble") == {3: (3, "b")}
