"""Headwater itself, by the same workload and the same reader as the peers that write Delta."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deltalake.exceptions import TableNotFoundError

from app.compare.digest import Row
from app.lake.lakehouse import Lakehouse
from spark_streaming.contract.contract import Contract
from tests.bench.peers.contender import Arena
from tests.bench.peers.delta_tables import value_of
from tests.bench.peers.equality import delta_rows


class Headwater:
    """The whole stack without Superset: bronze, silver, Trino and the exporter included."""

    name = "headwater"
    identity = "DEFAULT"
    services: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        return {"settings": "as shipped; on the stack's object store"}

    def start(self, arena: Arena) -> None:
        self._lake = Lakehouse(arena.stack.settings)

    def pids(self) -> Mapping[str, int]:
        return {}

    def ended(self) -> bool:
        return False  # the launcher starts a process that ended again

    def value(self, table: str, key: int) -> int | None:
        try:
            return value_of(self._lake.silver(table), key)
        except TableNotFoundError:
            return None

    def rows(self, contract: Contract) -> Iterable[Row]:
        return delta_rows(self._lake.silver(contract.table), contract)

    def log_tail(self) -> str:
        return ""

    def stop(self) -> None:
        """The stack is stopped by its owner."""
