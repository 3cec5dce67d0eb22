"""A peer that is one program, and writes Delta tables on the local disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from app.compare.digest import Row
from spark_streaming.contract.contract import Contract
from tests.bench.peers.contender import Arena, Program
from tests.bench.peers.delta_tables import local_table, value_of
from tests.bench.peers.equality import delta_rows


class LocalDelta:
    """Runs the program that `_prepared` makes; its tables are in `_lake`, which that sets."""

    name: str
    _lake: Path

    def __init__(self) -> None:
        self._program: Program | None = None

    def _prepared(self, arena: Arena) -> Program:
        raise NotImplementedError

    def start(self, arena: Arena) -> None:
        self._program = self._prepared(arena)
        self._program.start()

    def pids(self) -> Mapping[str, int]:
        return {} if self._program is None else {self.name: self._program.pid}

    def ended(self) -> bool:
        return self._program is not None and self._program.ended()

    def value(self, table: str, key: int) -> int | None:
        found = local_table(self._lake, table)
        return None if found is None else value_of(found, key)

    def rows(self, contract: Contract) -> Iterable[Row]:
        found = local_table(self._lake, contract.table)
        return [] if found is None else delta_rows(found, contract)

    def log_tail(self) -> str:
        return "" if self._program is None else self._program.tail()

    def stop(self) -> None:
        if self._program is not None:
            self._program.stop()
