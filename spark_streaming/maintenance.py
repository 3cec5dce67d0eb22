"""Upkeep of the tables by their only writer, between batches and within a bounded time."""

from __future__ import annotations

from spark_streaming.ledger import Ledger, LedgerRow
from spark_streaming.quarantine import Quarantine
from spark_streaming.table import TableOptions
from spark_streaming.topics import Topics


class Maintenance:
    def __init__(
        self, topics: Topics, ledger: Ledger, quarantine: Quarantine, options: TableOptions
    ) -> None:
        self._topics, self._ledger = topics, ledger

    def after_batch(self, rows: list[LedgerRow]) -> None:
        return
