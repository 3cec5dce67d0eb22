"""Gives the tables of previous processes: the source may change or drop them without an event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.names import topic_of

# A batch waits at most this long; adding a table takes some tens of milliseconds, more under load.
MEET_S = 2.0


class PreviousTables:
    """Gives the tables whose contracts were stored when this process began, each once."""

    def __init__(
        self, contracts: ContractStore, prefix: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._contracts = contracts
        self._prefix = prefix
        self._clock = clock
        self._left: dict[str, tuple[str, str]] | None = None

    def some(self, topics: Iterable[str]) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield (topic, source table) of the remaining ones for MEET_S; the next call continues.

        Args:
            topics: the topics in Kafka; only the first call reads them.
        """
        if self._left is None:
            kept = {topic_of(self._prefix, *source): source for source in self._contracts.tables()}
            self._left = {name: kept[name] for name in sorted(topics) if name in kept}
        limit = self._clock() + MEET_S
        while self._left and self._clock() < limit:
            name = next(iter(self._left))
            yield name, self._left.pop(name)
