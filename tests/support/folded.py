"""Makes folded rows, the input of a merge, from Python values."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from spark_streaming.contract.contract import Contract

LSN_MAX = 2**63 - 1
AT = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


def rows(contract: Contract, *given: dict[str, Any], keeps: tuple[str, ...] = ()) -> pa.Table:
    """Folded rows. Defaults: NULL, `_op` u, `_lsn` 100, and a guard that always wins."""
    schema = pa.schema(
        [
            *contract.data_schema,
            ("_lsn", pa.int64()),
            ("_committed_at", pa.timestamp("us", "UTC")),
            ("_op", pa.string()),
            ("_guard_lsn", pa.int64()),
            *((f"_keep_{name}", pa.bool_()) for name in keeps),
        ]
    )
    flags = {f"_keep_{name}": False for name in keeps}
    usual = {"_lsn": 100, "_committed_at": AT, "_op": "u", "_guard_lsn": LSN_MAX, **flags}
    return pa.Table.from_pylist([{**usual, **row} for row in given], schema=schema)
