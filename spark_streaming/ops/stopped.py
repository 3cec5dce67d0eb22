"""Decides about failures: whether all tables have the problem, where and when a table resumes.

Pure functions, without access to the lake or Kafka.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from kafka.errors import KafkaConnectionError

from spark_streaming.contract.contract_store import CatalogUnreachableError
from spark_streaming.contract.lsn import Lsn
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.tables.engine_protocol import Commit

# Offsets of one topic: partition -> offset.
PartitionOffsets = Mapping[int, int]

RUNNING, STOPPED, RESUMING, FAILING, REFUSED = (
    "running",
    "stopped",
    "resuming",
    "failing",
    "refused",
)
BACKOFF_S_MIN = 5.0
BACKOFF_S_MAX = 300.0
# Short: once the source answers again, every table that waited for it can continue.
SOURCE_RETRY_S_MAX = 15.0
# A problem that seems to concern all tables fails the batch. If it repeats in the same batch
# although the ledger can be written, it belongs to the failing tables alone.
WHOLE_FAILURES_MAX = 3
REASON_CHARS_MAX = 1000

_SHARED_TYPES = (
    ConnectionError,
    TimeoutError,
    MemoryError,
    CancelledError,
    KafkaConnectionError,
)
# delta-rs, pyarrow and the JVM report an unreachable object store only in the message's words.
_SHARED_WORDS = re.compile(
    r"generic s3 error|error sending request|connection (?:refused|reset|closed|error)"
    r"|connect(?:ion)? ?time(?:d )?out|operation timed out|aws error network|resolve host"
    r"|http status 5\d\d|slow ?down|service unavailable|access ?denied|forbidden|accesskeyid"
    r"|signaturedoesnotmatch|dns error|no space left|too many open files|cannot allocate memory"
    r"|answer from java side is empty|sparkcontext was shut ?down|cannot schedule new futures",
    re.IGNORECASE,
)


class TableStoppedError(Exception):
    """A table is stopped on purpose: see `stop_table`."""


def stop_table(reason: str, *, hint: str = "") -> NoReturn:
    """Stop the table whose events are being prepared; its part of the batch is not merged.

    A rule of the contract whose action is `fail` calls this between reading a batch's events and
    merging them (all of `TableSteps.prepare`). The other tables continue. The table is tried again
    from the same events: when its contract has changed, after a restart, at an operator's request,
    and with back-off. The rule is applied again each time.

    Args:
        reason: what was observed, for `ops.freshness` and the log.
        hint: what to do.
    Raises: TableStoppedError, always.
    """
    raise TableStoppedError(f"{reason}\n  hint: {hint}" if hint else reason)


# Errors that never concern all tables: only the table that needs the source's catalog waits.
_OWN_TYPES = (TableStoppedError, CatalogUnreachableError)


@dataclass(frozen=True)
class Failure:
    """One table that failed in a batch. `previous`: how often it failed before in this batch."""

    error: Exception
    previous: int = 0


def is_shared(error: BaseException) -> bool:
    """Whether an error concerns something that all tables share: object store, Kafka, memory."""
    return any(
        isinstance(cause, _SHARED_TYPES) or _SHARED_WORDS.search(str(cause))
        for cause in _chain(error)
    )


def batch_must_fail(failures: Sequence[Failure], worked: int) -> bool:
    """Whether the failures of some tables are a problem of the whole batch.

    Args:
        failures: the tables that failed after their retries.
        worked: how many other tables of the batch did not fail.
    Returns: True if the batch must fail and be repeated by the next process, without stopping
        tables; False if each of the tables is stopped and the batch goes on.
    """
    problems = [f for f in failures if not isinstance(f.error, _OWN_TYPES)]
    if not problems:
        return False
    last_time = all(f.previous + 1 >= WHOLE_FAILURES_MAX for f in problems)
    if any(is_shared(f.error) for f in problems):
        return not (worked and last_time)
    return not worked and len(problems) > 1 and not last_time


def reason_of(error: BaseException) -> str:
    """An error's text for the ledger and the log: short, without the JVM's stack trace."""
    lines = [line for line in str(error).splitlines() if not line.lstrip().startswith("at ")]
    text = "\n".join(lines)[:REASON_CHARS_MAX].strip()
    named = isinstance(error, TableStoppedError) or not text
    return (text or type(error).__name__) if named else f"{type(error).__name__}: {text}"


@dataclass(frozen=True)
class Slice:
    """Events of one topic to merge in one commit: from `start` on, up to before `end`."""

    start: PartitionOffsets
    end: PartitionOffsets
    commit: Commit

    @property
    def size(self) -> int:
        return sum(end - self.start.get(p, 0) for p, end in self.end.items())

    def span(self, topic: str) -> BatchSpan:
        """The slice as a `BatchSpan` for readers."""
        return BatchSpan({topic: dict(self.start)}, {topic: dict(self.end)})

    def to_json(self) -> str:
        """The slice as JSON, which `from_json` reads back."""
        return json.dumps(
            {
                "start": dict(self.start),
                "end": dict(self.end),
                "app_id": self.commit.app_id,
                "version": self.commit.version,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Slice:
        """Read a slice that `to_json` wrote."""
        found = json.loads(text)
        start, end = ({int(p): int(o) for p, o in found[k].items()} for k in ("start", "end"))
        return cls(start, end, Commit(found["app_id"], found["version"]))


@dataclass(frozen=True)
class Stop:
    """One stopped table, as the ledger stores it.

    Args:
        topic: its Kafka topic; `table`: its name in silver.
        offsets: for each partition, the first event that is not known to be merged.
        planned: the events of the merge that was begun last, None if none was begun. The commit's name in the table's
        own log shows whether it succeeded.
        attempts: failures since the last success.
        complete_lsn, complete_time: up to where the table is complete; fixed while it is stopped.
        on_purpose: whether a rule stopped it.
        generation: the rebuild that its rows come from; "" for none (see `swap`).
    """

    topic: str
    table: str
    reason: str
    since: datetime
    offsets: PartitionOffsets
    planned: Slice | None
    attempts: int = 1
    complete_lsn: Lsn | None = None
    complete_time: datetime | None = None
    on_purpose: bool = False
    generation: str = ""

    @property
    def state(self) -> str:
        return STOPPED if self.attempts else RESUMING


def backoff_s(attempts: int, error: BaseException | None = None) -> float:
    """The wait of a table that has failed `attempts` times in a row, now with `error`."""
    longest = BACKOFF_S_MAX
    if isinstance(error, CatalogUnreachableError):
        longest = SOURCE_RETRY_S_MAX
    return float(min(longest, BACKOFF_S_MIN * 2.0 ** min(max(attempts - 1, 0), 16)))


def first_offsets(span: BatchSpan, topic: str, seen: Sequence[tuple[int, int]]) -> dict[int, int]:
    """The offsets where a topic's part of a batch begins, for every partition.

    Spark's plan has no start for a partition that it saw for the first time: such a partition
    begins at the first event that was read.

    Args:
        seen: (partition, offset) of each event that was read.
    """
    given = span.start.get(topic, {})
    first: dict[int, int] = {}
    for partition, offset in seen:
        first[partition] = min(offset, first.get(partition, offset))
    return {p: given.get(p, first.get(p, end)) for p, end in span.end[topic].items()}


def next_slice(
    app_id: str, offsets: PartitionOffsets, end: PartitionOffsets, offsets_max: int
) -> Slice | None:
    """The next events to merge, `offsets_max` or a few more; None if nothing is left.

    A partition that was added while the table was stopped begins at 0. The commit's version is the
    sum of the offsets at the slice's end. It grows with every slice, and two slices of one table
    that both begin where a merge ended never have the same version.
    """
    start = {p: offsets.get(p, 0) for p in {*offsets, *end}}
    sizes = {p: max(0, end.get(p, 0) - first) for p, first in start.items()}
    left = sum(sizes.values())
    if not left:
        return None
    # All partitions advance together, as they were written, because a row that changes its key
    # moves from one partition to another.
    part = min(1.0, offsets_max / left)
    to = {p: first + min(sizes[p], math.ceil(sizes[p] * part)) for p, first in start.items()}
    return Slice(start, to, Commit(app_id, sum(to.values())))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
