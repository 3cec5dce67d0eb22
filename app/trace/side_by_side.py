"""Shows rows as the source and as silver has them: `python -m app.trace.side_by_side`.

stdin: a JSON object in each line, `{"table": "public.orders", "keys": [{"id": "7"}, …]}`, with keys
as texts. stdout: for each line at once, a JSON object with `failed` (the error as text), or with:
- `columns`; `rows`, one for each key in the given order: `key`, `source` and `silver` (texts by
column,
  or null if there is no such row), `differing` (columns);
  - `complete_lsn`: the LSN to which silver was complete before it was read; `source_lsn`: the
  source's LSN when it was read, after silver; `behind_bytes`: the distance between the two.

Both sides are compared as `verify` compares them: a mask, or an empty text that becomes NULL, is
not a difference. A change that silver has not merged yet is a difference.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

import psycopg
from deltalake.exceptions import DeltaError, TableNotFoundError
from psycopg import sql

from app.environment.settings import Settings, load
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.trace.trace import contract_of
from app.trace.trace_key import RowKey, parse_key
from app.trace.trace_silver import condition_of
from app.trace.trace_version import named_failures
from spark_streaming.contract.canonical import SESSION_SETTINGS, canonical_row, shown, source_select
from spark_streaming.contract.contract import Contract, quoted
from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.contract.lsn import lsn_text, parse_lsn
from spark_streaming.contract.masks import expected_in_silver
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.storage.connections import TCP_LIMITS

KEYS_MAX = 200
CONNECT_TIMEOUT_S = 5
Texts = tuple[str | None, ...]


def side_by_side(
    settings: Settings, table: str, keys: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Return the rows with these keys on both sides (see the module). Raises: HeadwaterError."""
    lake = Lakehouse(settings)
    with named_failures():
        contract = contract_of(lake, table)
        wanted = [parse_key(contract, json.dumps(dict(key))) for key in keys[:KEYS_MAX]]
        complete = lake.complete_lsn()
        silver = _in_silver(lake, contract, wanted)
    source, source_lsn = _in_source(settings, contract, wanted)
    rows = [_compared(contract, key, source, silver) for key in wanted]
    return {
        "table": table,
        "columns": [column.source_name for column in contract.columns],
        "rows": rows,
        "complete_lsn": lsn_text(complete),
        "source_lsn": source_lsn,
        "behind_bytes": max(0, parse_lsn(source_lsn) - complete),
    }


def _in_silver(
    lake: Lakehouse, contract: Contract, keys: Sequence[RowKey]
) -> dict[tuple[Any, ...], Texts]:
    """Read silver's rows: key (silver's values) -> canonical texts."""
    try:
        handle = lake.silver(lake.names.of(contract.schema, contract.table))
    except TableNotFoundError:
        return {}
    dataset = handle.to_pyarrow_dataset()
    there = [c.name for c in contract.columns if c.name in dataset.schema.names]
    if not keys or not set(contract.key) <= set(there):
        return {}
    condition = reduce(or_, (condition_of(dataset.schema, key) for key in keys))
    rows = dataset.to_table(columns=there, filter=condition).to_pylist()
    return {
        tuple(row[name] for name in contract.key): canonical_row(
            contract, [row.get(column.name) for column in contract.columns]
        )
        for row in rows
    }


def _in_source(
    settings: Settings, contract: Contract, keys: Sequence[RowKey]
) -> tuple[dict[Texts, Texts], str]:
    """Read the source's rows and its LSN.

    Returns: key (canonical texts) -> canonical texts as silver must hold them; the LSN.
    """
    expect = _expectation(settings, contract)
    places = [[c.name for c in contract.columns].index(name) for name in contract.key]
    try:
        with psycopg.connect(
            settings.capture_dsn,
            **{**TCP_LIMITS, "connect_timeout": CONNECT_TIMEOUT_S},
            application_name="headwater-compare",
        ) as connection:
            for statement in SESSION_SETTINGS:
                connection.execute(statement.encode())
            condition = " or ".join(key_condition(connection, key) for key in keys) or "false"
            rows = connection.execute(source_select(contract, condition).encode()).fetchall()
            at = connection.execute("select pg_current_wal_lsn()::text").fetchone()
    except psycopg.Error as error:
        raise HeadwaterError(
            "the rows could not be read from the source", detail=str(error).strip().splitlines()[0]
        ) from error
    expected = {}
    for row in rows:
        texts = tuple(None if value is None else str(value) for value in row)
        expected[tuple(texts[place] for place in places)] = expect(texts)
    return expected, str(at[0]) if at else "0/0"


def _expectation(settings: Settings, contract: Contract) -> Any:
    secret = settings.secret("mask_secret").encode()
    try:
        rules = ContractFolder(settings.contracts_folders, secret).rules_of(contract)
    except ContractFileError as error:
        raise HeadwaterError(
            "the table's contract file is wrong",
            detail=str(error),
            hint="`headwater contract check`",
        ) from error
    if not rules.treats_values:
        return tuple
    return expected_in_silver(contract, rules.empty_to_null, rules.masks, secret)


def key_condition(connection: psycopg.Connection[Any], key: RowKey) -> str:
    """Return the SQL condition that selects the row with a key in the source."""
    terms = [
        f"{quoted(column.source_name)} = {sql.quote(_plain(value), connection)}::{column.pg_type}"
        for column, value in zip(key.columns, key.values, strict=True)
    ]
    return f"({' and '.join(terms)})"


def _plain(value: Any) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def _compared(
    contract: Contract,
    key: RowKey,
    source: Mapping[Texts, Texts],
    silver: Mapping[tuple[Any, ...], Texts],
) -> dict[str, Any]:
    key_columns = [contract.by_name[name] for name in contract.key]
    part = Contract(contract.schema, contract.table, tuple(key_columns), contract.key)
    here = source.get(canonical_row(part, key.values))
    there = silver.get(key.values)
    names = [column.source_name for column in contract.columns]
    pairs = list(
        zip(names, here or (None,) * len(names), there or (None,) * len(names), strict=True)
    )
    one_only = (here is None) != (there is None)
    return {
        "key": {c.source_name: str(v) for c, v in zip(key.columns, key.values, strict=True)},
        "source": _shown(contract, here),
        "silver": _shown(contract, there),
        "differing": names if one_only else [name for name, a, b in pairs if a != b],
    }


def _shown(contract: Contract, texts: Texts | None) -> dict[str, str | None] | None:
    """Return texts by column, for people."""
    if texts is None:
        return None
    return {
        column.source_name: shown(column, text)
        for column, text in zip(contract.columns, texts, strict=True)
    }


def main() -> int:
    """Answer each line of stdin until its end."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = side_by_side(load(), str(request["table"]), list(request["keys"]))
        except (HeadwaterError, DeltaError) as error:
            answer = {"failed": str(error)}
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
