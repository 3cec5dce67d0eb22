"""One table's part of a batch, between the steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from spark_streaming.events.event import Reject
from spark_streaming.events.position import HighWater
from spark_streaming.fold.keyed import Folded
from spark_streaming.ops.stopped import (
    Slice,
    Stop,
)
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows
from spark_streaming.rules.rules import TableRules
from spark_streaming.rules.screen import Screened
from spark_streaming.schema.topics import Topic
from spark_streaming.tables.engine_protocol import MergeResult
from spark_streaming.tables.silver_table import SilverTable

log = logging.getLogger(__name__)


@dataclass
class Part:
    """One table's part of a batch. `failure` ended it early; `stop` is what the ledger keeps.

    `rules` and `screened` are what `Gate` made of it; `fresh` what its decoding rejected.

    Args:
        rejected_before: rejects that are in quarantine already and not in memory any more.
        planned: the slice that was being merged at the failure, where it is not the whole part.
        claims: whether the table is as complete as the batch; False if it never had an event.
    """

    topic: Topic
    rows_in: int
    folded: Folded | None = None
    rejects: list[Reject] = field(default_factory=list)
    skipped: int = 0
    high_water: HighWater = field(default_factory=HighWater)
    seen_time: datetime | None = None
    result: MergeResult | None = None
    engine: str | None = None
    source_time: datetime | None = None
    seconds: float = 0.0
    failure: Exception | None = None
    stop: Stop | None = None
    rules: TableRules | None = None
    screened: Screened | None = None
    fresh: QuarantinedRows = field(default_factory=QuarantinedRows)
    rejected_before: int = 0
    planned: Slice | None = None
    claims: bool = True

    @property
    def rows_quarantined(self) -> int:
        """How many events went to quarantine."""
        return len(self.rejects) + self.rejected_before

    def followed_by(self, later: Part) -> Part:
        """Combine with a later part, without rows: for a table that merged several times."""
        times = [t for t in (self.source_time, later.source_time) if t]
        seen = [t for t in (self.seen_time, later.seen_time) if t]
        result = later.result.after(self.result) if later.result else self.result
        return replace(
            later,
            rows_in=self.rows_in + later.rows_in,
            folded=None,
            screened=None,
            rejects=self.rejects + later.rejects,
            rejected_before=self.rejected_before + later.rejected_before,
            skipped=self.skipped + later.skipped,
            seen_time=max(seen, default=None),
            result=result,
            engine=later.engine or self.engine,
            source_time=max(times, default=None),
            seconds=self.seconds + later.seconds,
        )


@dataclass(frozen=True)
class Work:
    """Parts of some topics that the driver does not take at once; `run` merges them."""

    topics: Sequence[str]
    run: Callable[[], list[Part]]


def merge_retried(
    part: Part,
    silver: SilverTable,
    engine: str,
    merge: Callable[[], MergeResult],
    pauses: tuple[float, ...],
) -> None:
    """Merge under the table's lock, again after each pause (s); the part gets the result."""
    began = time.monotonic()
    for pause in (*pauses, None):
        try:
            with silver.lock:
                part.result = merge().after(part.result)
            break
        except Exception as error:  # any failure of a merge is tried again
            log.warning("merge of %s failed: %s: %s", silver.name, type(error).__name__, error)
            if pause is None:
                raise
            time.sleep(pause)
    part.engine = engine
    part.seconds = time.monotonic() - began


class BatchFailedError(Exception):
    """One or more tables could not be merged; the batch is repeated from its start."""
