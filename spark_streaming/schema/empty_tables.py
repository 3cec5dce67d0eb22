"""Makes silver tables from the catalog for captured tables that never had a row.

They have no event, and usually no topic. Their row in the ledger has no `complete_lsn`, because
rows from before their capture may still be on the way. If the source notes its definitions, the
table begins with the definition at the LSN to which silver is complete, and then follows the later
ones. An event of an older definition is thus still decoded by that definition.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from spark_streaming.contract.contract_store import CatalogUnreachableError
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.names import topic_of
from spark_streaming.contract.table_share import TableShare
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.schema.catalog_watch import CatalogWatch, Table
from spark_streaming.schema.topic import Topic
from spark_streaming.schema.topics import Topics

log = logging.getLogger(__name__)
CHECK_S = 2.0
# A batch waits at most this long; creating a table takes some hundred milliseconds on a busy machine.
MAKE_S = 1.0


@dataclass
class EmptyTables:
    """Finds the tables of a publication that have had no event.

    Args:
        publication: its name; if it is empty, no table is made before its first event.
        share: the job's share of the tables; only these are made.
    """

    watch: CatalogWatch
    topics: Topics
    prefix: str
    publication: str = ""
    clock: Callable[[], float] = time.monotonic
    share: TableShare = field(default_factory=TableShare)
    _checked_at: float = field(default=-CHECK_S, init=False)
    _waiting: list[Topic] = field(default_factory=list, init=False)
    _known: set[Table] = field(default_factory=set, init=False)

    def check(self, span: BatchSpan, complete_lsn: Lsn | None) -> list[Topic]:
        """Make the new ones. Returns: all for which this process has written no ledger row yet.

        If the source does not answer, nothing changes.

        Args:
            span: the batch's; a table that has events in its topic is made with them instead.
            complete_lsn: the LSN to which silver is complete.
        """
        now = self.clock()
        if self.publication and now - self._checked_at >= CHECK_S:
            self._checked_at = now
            try:
                self._make(span, complete_lsn or 0, now + MAKE_S)
            except CatalogUnreachableError as error:
                log.debug("%s", error)
            except Exception as error:  # noqa: BLE001 - its next check, or its first event, raises the error again
                log.warning("a table without rows could not be made: %s", error)
        return list(self._waiting)

    def recorded(self) -> None:
        """Note that the ledger now has a row of each table that `check` returned last."""
        self._waiting.clear()

    def _make(self, span: BatchSpan, reached: int, limit: float) -> None:
        published = [one for one in self.watch.published(self.publication) if self.share.has(*one)]
        self._known &= set(published)  # a table that is published again is made again
        for source in published:
            if source in self._known:
                continue
            if self.clock() >= limit:
                self._checked_at = -CHECK_S  # the others are made with the next batch
                return
            ends = span.end.get(topic_of(self.prefix, *source), {})
            if not any(ends.values()):
                topic = self.topics.add_empty(source, reached)
                if topic is not None:
                    self._waiting.append(topic)
            self._known.add(source)
