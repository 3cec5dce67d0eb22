"""Gives source tables their silver names, in a lake that may have tables of earlier releases.

Those releases kept only ASCII letters (`t_ble` for `täble`). Such a name stays: the Delta table of
that name says which source table it belongs to. Nearly all tables have the same name by both rules,
and need no request to the object store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.names import ascii_silver_table, parse_topic, silver_table, topic_of
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.ownership import mark, noted_source

Source = tuple[str, str]
# How often, at most, the lake is asked which table a topic belongs to if its name has lost letters.
LIST_S = 10.0


class SilverNames:
    """The names in one lake. Safe for use by several threads.

    Args:
        clock: gives the time, which decides when the contracts may be listed again.
    """

    def __init__(self, lake: Lake, clock: Callable[[], float] = time.monotonic) -> None:
        self._lake = lake
        self._contracts = ContractStore(lake, "")
        self._clock = clock
        self._known: dict[Source, str] = {}
        self._topics: dict[str, Source] = {}
        self._listed_at = -LIST_S
        self._lock = threading.Lock()

    def of(self, schema: str, table: str) -> str:
        """The silver table of a source table. Raises: OSError, DeltaError if the store is silent."""
        name, ascii_name = silver_table(schema, table), ascii_silver_table(schema, table)
        if name == ascii_name:
            return name
        with self._lock:
            if (schema, table) not in self._known:
                given = self._is_in_use((schema, table), ascii_name)
                self._known[schema, table] = ascii_name if given else name
            return self._known[schema, table]

    def source_of(self, topic: str, prefix: str) -> Source | None:
        """The source table of a topic: as the lake knows it, else by the topic's name.

        None if the topic does not belong to a table.
        """
        parsed = parse_topic(topic, prefix)
        if parsed is None:
            return None
        with self._lock:
            if topic not in self._topics and self._clock() - self._listed_at >= LIST_S:
                self._listed_at = self._clock()
                self._topics = {topic_of(prefix, *one): one for one in self._contracts.tables()}
            return self._topics.get(topic, parsed)

    def of_topic(self, topic: str, prefix: str) -> str | None:
        """The silver table of a topic; None if the topic does not belong to a table."""
        source = self.source_of(topic, prefix)
        return None if source is None else self.of(*source)

    def _is_in_use(self, source: Source, ascii_name: str) -> bool:
        try:
            found = self._lake.table(self._lake.silver_path(ascii_name)).metadata()
        except TableNotFoundError:
            return False
        noted = noted_source(found)
        if noted is not None:
            return noted == mark(*source)
        # The first releases did not note the owner: of the tables that they kept, the oldest has
        # the name.
        if found.description:
            return False
        kept = [one for one in self._contracts.tables() if ascii_silver_table(*one) == ascii_name]
        return source in kept and source == min(kept, key=self._age)

    def _age(self, source: Source) -> tuple[int, Source]:
        contract = self._contracts.latest(*source)
        return (contract.oid or 0 if contract else 0), source
