"""A range of a key has the same rows in a real source and in a real Delta table."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from app.compare.compare import Comparison, compare
from app.compare.ranges import WHOLE, KeyOrder, KeyRange, cut, order_of, pick, sample_keys, size_of
from app.compare.silver_rows import SilverRows
from app.compare.snapshot import open_snapshot
from app.verify.verify_work import source_rows
from spark_streaming.contract.canonical import source_select
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.source_catalog import read_contract

ROWS = 1_500
LETTERS = "aAbBzZäÄéß_-. 0~'\\\"%é😀"


def collations(connection: psycopg.Connection[Any]) -> list[str]:
    """The server's collations that do not sort by byte."""
    rows = connection.execute(
        "SELECT collname FROM pg_collation WHERE collname IN "
        "('en-x-icu', 'sv-x-icu', 'en_US.utf8', 'C.utf8')"
    ).fetchall()
    return [row[0] for row in rows]


def words(chance: random.Random) -> set[str]:
    return {"".join(chance.choices(LETTERS, k=chance.randint(0, 12))) for _ in range(ROWS)}


def silver_of(dsn: str, contract: Contract, path: Path) -> SilverRows:
    """A Delta table with the source's current rows, in several files."""
    names = [column.name for column in contract.columns]
    with psycopg.connect(dsn) as connection:
        query = f"SELECT * FROM {contract.schema}.{contract.table}"
        rows = [dict(zip(names, row, strict=True)) for row in connection.execute(query.encode())]
    texts = {c.name for c in contract.columns if c.kind in ("uuid", "text")}
    plain = [
        {n: str(v) if n in texts and v is not None else v for n, v in row.items()} for row in rows
    ]
    for start in range(0, len(plain), 400):
        part = pa.Table.from_pylist(plain[start : start + 400], schema=contract.data_schema)
        write_deltalake(path, part, mode="append")
    return SilverRows(DeltaTable(path), contract)


def compared(
    dsn: str,
    contract: Contract,
    silver: SilverRows,
    parts: list[tuple[KeyRange, ...]],
    scratch: Path,
) -> list[Comparison]:
    columns = [column.name for column in contract.columns]
    with open_snapshot(dsn) as snapshot:
        order = order_of(contract, snapshot.connection)
        assert order is not None

        def one(ranges: tuple[KeyRange, ...]) -> Comparison:
            condition = order.source_condition(ranges, snapshot.connection)
            query = source_select(contract, condition)
            return compare(
                lambda: source_rows(snapshot.connection, query, 100),
                lambda: silver.texts(order.silver_filter(ranges)),
                columns,
                [columns.index(name) for name in contract.key],
                scratch=scratch,
            )

        return [one(ranges) for ranges in parts]


def planned(dsn: str, table: str, parts: int) -> tuple[Contract, KeyOrder, tuple[KeyRange, ...]]:
    with psycopg.connect(dsn) as connection:
        contract = read_contract(connection, "public", table)
        assert contract is not None
        order = order_of(contract, connection)
        assert order is not None
        keys = sample_keys(connection, order, ROWS)
    return contract, order, cut(keys, order, parts)


def check(dsn: str, table: str, tmp_path: Path, rows: int) -> None:
    """Divide the table and compare the parts; then plant a wrong row and find it in exactly one part."""
    contract, _, ranges = planned(dsn, table, 7)
    silver = silver_of(dsn, contract, tmp_path / table)
    found = compared(dsn, contract, silver, [(one,) for one in ranges], tmp_path)
    assert [f.differences for f in found if not f.equal] == []
    assert sum(f.rows for f in found) == rows
    assert len([f for f in found if f.rows]) > 3
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"UPDATE {table} SET n = -n WHERE n = 17".encode())
    again = compared(dsn, contract, silver, [(one,) for one in ranges], tmp_path)
    assert sum(f.differing for f in again) == 1
    assert [f for f in again if f.missing or f.extra] == []


def test_text_keys_of_any_collation_are_cut_into_the_same_ranges(
    dsn: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    with psycopg.connect(dsn, autocommit=True) as connection:
        kinds = ["text", 'text COLLATE "C"', "varchar(40)"]
        kinds += [f'text COLLATE "{name}"' for name in collations(connection)]
        for number, kind in enumerate(kinds):
            keys = words(chance)
            connection.execute(f"CREATE TABLE t{number} (k {kind} PRIMARY KEY, n int)".encode())
            with connection.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO t{number} VALUES (%s, %s)".encode(),
                    [(key, n) for n, key in enumerate(sorted(keys))],
                )
            check(dsn, f"t{number}", tmp_path, len(keys))


def test_keys_of_integers_and_uuids_and_composite_ones(dsn: str, tmp_path: Path) -> None:
    tables = {
        "by_int8": ("k bigint PRIMARY KEY, n int", "(i - 700) * 12345678901, i"),
        "by_int2": ("k smallint, m int, n int, PRIMARY KEY (k, m)", "i % 9 - 4, i, i"),
        "by_uuid": ("k uuid PRIMARY KEY, n int", "gen_random_uuid(), i"),
        "by_both": ("k text, m bigint, n int, PRIMARY KEY (k, m)", "chr(97 + i % 20), i, i"),
    }
    for name, (columns, values) in tables.items():
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE {name} ({columns})".encode())
            connection.execute(
                f"INSERT INTO {name} SELECT {values} FROM generate_series(1, {ROWS}) i".encode()
            )
        check(dsn, name, tmp_path, ROWS)


def test_a_sample_of_several_ranges_holds_the_same_rows(
    dsn: str, tmp_path: Path, seed: int
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE many (k int PRIMARY KEY, n int)")
        connection.execute(
            f"INSERT INTO many SELECT i, i FROM generate_series(1, {ROWS}) i".encode()
        )
    contract, order, _ = planned(dsn, "many", 1)
    silver = silver_of(dsn, contract, tmp_path / "many")
    keys = [str(i) for i in range(1, ROWS + 1)]
    ranges = pick(keys, order, 0.1, random.Random(seed))
    assert len(ranges) > 3
    [found] = compared(dsn, contract, silver, [ranges], tmp_path)
    assert found.equal
    assert ROWS * 0.05 < found.rows < ROWS * 0.2


def test_a_partitioned_table_has_the_size_of_its_partitions(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE split (k int PRIMARY KEY) PARTITION BY HASH (k)")
        for number in range(2):
            connection.execute(
                f"CREATE TABLE split_{number} PARTITION OF split "
                f"FOR VALUES WITH (MODULUS 2, REMAINDER {number})".encode()
            )
        connection.execute("INSERT INTO split SELECT generate_series(1, 1000)")
        connection.execute("ANALYZE split")
        rows, size = size_of(connection, "public", "split")
        assert (rows, size > 0) == (1000, True)
        assert size_of(connection, "public", "not_there") == (0, 0)
        order = order_of(_contract(connection, "split"), connection)
        assert order is not None and len(sample_keys(connection, order, 1000)) == 1000


def test_a_key_that_the_two_sides_may_order_differently_is_not_cut(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number, kind in enumerate(("numeric", "float8", "char(5)", "timestamptz", "date")):
            connection.execute(f"CREATE TABLE whole_{number} (k {kind} PRIMARY KEY)".encode())
            contract = _contract(connection, f"whole_{number}")
            assert order_of(contract, connection) is None
    assert WHOLE[0].whole


def _contract(connection: psycopg.Connection[Any], table: str) -> Contract:
    contract = read_contract(connection, "public", table)
    assert contract is not None
    return contract
