"""Tables are claimed in parallel, and each silver table gets exactly one owner."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.tables.ownership import Owners
from tests.support.disk_lake import DiskLake

WITHIN_S = 30.0


class MeetingLake(DiskLake):
    """A lake that opens a table only when two threads are asking for one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.meeting = threading.Barrier(2)

    def table(self, path: str, version: int | None = None) -> Any:
        self.meeting.wait(WITHIN_S)
        return super().table(path, version)


def claimed(owners: Owners, *tables: str) -> list[str | None]:
    with ThreadPoolExecutor(len(tables)) as pool:
        return list(pool.map(lambda table: owners.claim("public", table).refusal, tables))


def test_claims_of_several_tables_do_not_wait_for_one_another(tmp_path: Path) -> None:
    lake = MeetingLake(tmp_path)
    owners = Owners(lake, ContractStore(lake, ""))
    assert claimed(owners, "orders", "customers") == [None, None]


def test_of_two_claims_of_one_name_at_the_same_moment_one_gets_it(tmp_path: Path) -> None:
    lake = MeetingLake(tmp_path)
    owners = Owners(lake, ContractStore(lake, ""), lambda schema, table: table.lower())
    found = claimed(owners, "orders", "Orders")
    assert sorted(one is None for one in found) == [False, True]
    assert "would share the silver table `orders`" in str(found)
    assert claimed(owners, "orders", "Orders") == found
