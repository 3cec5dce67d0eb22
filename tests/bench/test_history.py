"""The cost of a table's versions in each micro-batch: every decode makes a `History` of them.

No stack; CPU time, so that other work on the machine does not count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.evolution import PREVIOUS_VERSIONS_MAX, next_version
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.events.contract_versions import History
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from tests.support.measure import report
from tests.unit.debezium_events import event

FIRST_LSN = 1_000
LSN_A_VERSION = 1_000
NOTED_AT = 1


def table(columns: int, earlier: int) -> Contract:
    """A table with one more column in each version, as recorded by the source."""
    there = [Column("id", "bigint", "int64", False, base_type="int8", attnum=1)]
    there += [_column(number) for number in range(2, columns + 1)]
    contract = Contract("public", "films", tuple(there), ("id",), oid=9, noted_lsn=Lsn(NOTED_AT))
    for version in range(earlier):
        there.append(_column(columns + version + 1))
        at = FIRST_LSN + version * LSN_A_VERSION
        found = replace(
            contract,
            columns=tuple(there),
            begins_at_lsn=Lsn(at),
            valid_from_lsn=Lsn(at),
            noted_lsn=Lsn(at),
            previous_versions=(),
        )
        contract = next_version(contract, found)
    return contract


def _column(number: int) -> Column:
    kind = (("text", "text", "text"), ("integer", "int32", "int4"))[number % 2]
    return Column(f"c{number}", kind[0], kind[1], base_type=kind[2], attnum=number)


def events(contract: Contract, count: int, first_lsn: int) -> list[RawEvent]:
    """Inserted rows with all columns of a contract."""
    row = {c.name: 7 if c.kind.startswith("int") else "a text" for c in contract.columns}
    return [
        event("c", lsn=first_lsn + n, key={"id": n}, after={**row, "id": n}) for n in range(count)
    ]


def cpu_ms(run: Callable[[], Any], rounds: int) -> float:
    """The median of some rounds, without the first two."""
    times = []
    for _ in range(rounds + 2):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return round(1000 * statistics.median(times[2:]), 3)


@pytest.mark.parametrize("columns", [8, 300])
def test_history_in_a_micro_batch(columns: int) -> None:
    figures = {}
    newest = FIRST_LSN + (PREVIOUS_VERSIONS_MAX + 1) * LSN_A_VERSION
    for earlier in (0, 1, PREVIOUS_VERSIONS_MAX):
        contract = table(columns, earlier)
        assert len(contract.previous_versions) == earlier
        oldest = contract.previous_versions[0] if earlier else contract
        cases = {
            "1 event": events(contract, 1, newest),
            "1000 events": events(contract, 1_000, newest),
            # Only as many as there are positions before the next version.
            "900 events of the oldest version": events(oldest, 900, 1),
        }
        found = {"history_ms": cpu_ms(lambda c=contract: _history_of(c, newest), 200)}  # type: ignore[misc]
        for name, given in cases.items():
            decoded = decode(given, contract, HighWater())
            assert len(decoded.changes.changes) == len(given) and not decoded.rejects
            rounds = 100 if len(given) == 1 else 7
            found[name + ", ms"] = cpu_ms(
                lambda c=contract, g=given: decode(g, c, HighWater()),  # type: ignore[misc]
                rounds,
            )
        figures[f"{earlier} earlier versions"] = found
    report(f"history_{columns}_columns", figures)


def _history_of(contract: Contract, lsn: int) -> None:
    """The cost of a decode before its first row, and for finding that row's version."""
    image = dict.fromkeys(c.name for c in contract.columns)
    document = {"op": "c", "source": {"lsn": lsn, "txId": 1}, "after": image}
    assert History(contract).upgraded(image, document) is image
