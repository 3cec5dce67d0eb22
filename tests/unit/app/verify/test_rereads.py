"""`verify` says of a table that differs whether the stream missed changes, and what is done about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.compare.compare import Comparison
from app.verify.rereads import rereads
from app.verify.verdict import Verdict
from spark_streaming.contract.lsn import parse_lsn
from spark_streaming.ops.incident_rows import TABLES_MAX
from spark_streaming.ops.incident_table import IncidentLog
from tests.support.disk_lake import DiskLake

NAMES = {"orders": ("public", "orders"), "shop__orders": ("shop", "orders")}
WITHIN_S = 30.0


def test_tables_of_an_open_gap_are_named_until_it_is_closed(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    log = IncidentLog(lake)
    log.refresh()
    assert rereads(lake, NAMES) == {}
    gap = log.open_incident("gap", "slot", cause="the slot is gone", tables=["shop.orders"])
    log.open_incident("slot_lost", "slot", cause="the slot is gone", tables=["public.orders"])
    assert log.flush(WITHIN_S)
    found = rereads(lake, NAMES)
    assert list(found) == ["shop__orders"] and "headwater recover" in found["shop__orders"]
    log.extend_incident(gap, lsn_to=parse_lsn("0/2"))
    assert log.flush(WITHIN_S)
    assert gap in rereads(lake, NAMES)["shop__orders"]
    log.close_incident(gap, "every table was read again")
    assert log.flush(WITHIN_S)
    assert rereads(lake, NAMES) == {}


@pytest.mark.parametrize("tables", [[], [f"public.t{n}" for n in range(TABLES_MAX + 1)]])
def test_a_gap_without_tables_or_with_too_many_to_list_concerns_all(
    tmp_path: Path, tables: list[str]
) -> None:
    lake = DiskLake(tmp_path)
    log = IncidentLog(lake)
    log.open_incident("gap", "slot", cause="the slot is gone", tables=tables)
    assert log.flush(WITHIN_S)
    assert set(rereads(lake, NAMES)) == set(NAMES)


def test_the_verdict_says_so_before_its_differences() -> None:
    verdict = Verdict("orders", comparison=Comparison(missing=1), reread="it is being read again")
    assert next(verdict.messages()) == "orders: it is being read again"
