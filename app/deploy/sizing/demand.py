"""What a workload demands of each part: pure functions of the workload and the measured figures.

The formulae are explained in docs/scale.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from app.deploy.sizing.coefficients import Batches, Bytes, Coefficients, Part

SILVER = "silver"
STORE = "store"
SECONDS_A_DAY = 86_400
GIB = 1 << 30
MB = 1e6
BATCH_S_MAX = 600.0  # a batch that would last longer: silver does not keep up
_ROUNDS_MAX = 10_000
_STEADY = 1e-6


@dataclass(frozen=True)
class Workload:
    """What arrives: changes of random rows, spread evenly over the tables.

    rows: of all tables together. active_rows: those that changes fall into, neighbours by key.
    retention_days: how long bronze is kept. cores: that silver may use.
    """

    changes_per_second: float
    tables: int
    row_bytes: int
    retention_days: float
    rows: int
    active_rows: int
    cores: float


@dataclass(frozen=True)
class Batch:
    """A micro-batch of silver under a steady load; `seconds` is infinite if silver falls behind.

    `every_s`: from one batch's start to the next one's; longer where silver waits for a change.
    """

    seconds: float
    every_s: float
    tables: float  # that it touches
    rewritten_bytes: float


@dataclass(frozen=True)
class StoreUse:
    """What the object store holds, in bytes, and is asked for, a second."""

    bronze_bytes: float
    silver_bytes: float
    old_versions_bytes: float
    writes_per_second: float
    reads_per_second: float


def batch_of(load: Workload, found: Coefficients) -> Batch:
    """The batch whose work lasts as long as its changes need, on average.

    A batch holds the changes since the previous one began. From a batch of one change on, each
    holds more than the last, until they stay alike or last too long.
    """
    one = found.batches
    seconds = 0.0
    for _ in range(_ROUNDS_MAX):
        every_s = period(seconds, load.changes_per_second)
        tables, rewritten = touched(load, every_s, found.bytes)
        rewriting = rewritten / MB * one.rewritten_mb_cpu_s.value
        merging = tables * one.table_s.value + rewriting / min(load.cores, one.threads_max.value)
        changes = load.changes_per_second * every_s
        following = one.fixed_s.value + merging + changes * one.change_s.value
        if following > BATCH_S_MAX:
            break
        if abs(following - seconds) <= _STEADY * following:
            return Batch(following, every_s, tables, rewritten)
        seconds = following
    return Batch(math.inf, math.inf, load.tables, math.inf)


def period(seconds: float, changes_per_second: float) -> float:
    """From batch to batch: a batch's own time and, if nothing arrived in it, the wait for a change."""
    nothing_came = math.exp(-changes_per_second * seconds)
    return seconds + nothing_came / changes_per_second


def touched(load: Workload, seconds: float, sizes: Bytes) -> tuple[float, float]:
    """The number of tables with changes within this many seconds, and the bytes of files that these changes
    replace."""
    tables = hit(load.changes_per_second * seconds, load.tables)
    table_bytes = silver_bytes(load, sizes) / load.tables
    file_bytes = min(table_bytes, sizes.silver_file_bytes.value)
    active_bytes = table_bytes * min(1.0, load.active_rows / load.rows)
    files = max(1.0, active_bytes / sizes.silver_file_bytes.value)
    changes = load.changes_per_second * seconds / tables
    return tables, tables * hit(changes, files) * file_bytes


def hit(throws: float, places: float) -> float:
    """The expected number of `places` that are hit by this many random throws: n · (1 − e^(−k/n))."""
    return places * -math.expm1(-throws / places)


def together(load: Workload, seconds: float) -> float:
    """The groups of changes in a second, if changes of one table within this many seconds form one group."""
    return hit(load.changes_per_second * seconds, load.tables) / seconds


def merge_cpu_s(tables: float, rewritten_bytes: float, one: Batches) -> float:
    """CPU of the merges of one batch."""
    return tables * one.table_cpu_s.value + rewritten_bytes / MB * one.rewritten_mb_cpu_s.value


def cores_of(name: str, load: Workload, found: Coefficients) -> float:
    """Cores that a part keeps busy; infinite where silver falls behind."""
    part = found.parts[name]
    busy = load.changes_per_second * part.cpu_s_per_million_changes.value / 1e6
    if name == SILVER:
        batch = batch_of(load, found)
        if math.isinf(batch.seconds):
            return math.inf
        merging = merge_cpu_s(batch.tables, batch.rewritten_bytes, found.batches)
        busy += (found.batches.fixed_cpu_s.value + merging) / batch.every_s
    if part.cpu_ms_per_request is not None:
        use = store_use(load, found)
        asked = use.writes_per_second + use.reads_per_second
        busy += asked * part.cpu_ms_per_request.value / 1000
    return part.idle_cores.value + busy


def kafka_bytes(load: Workload, sizes: Bytes, replicas: int) -> float:
    """What Kafka's disks hold, over all brokers."""
    days = min(sizes.kafka_retention_days.value, load.retention_days)
    polls = together(load, sizes.poll_s.value) * sizes.kafka_per_topic_and_poll.value
    each = _event_bytes(sizes.kafka_per_change.value, load, sizes)
    return (load.changes_per_second * each + polls) * days * SECONDS_A_DAY * replicas


def silver_bytes(load: Workload, sizes: Bytes) -> float:
    """The newest version of all tables."""
    return load.rows * load.row_bytes * sizes.silver_per_row_byte.value


def store_use(load: Workload, found: Coefficients, merged: Workload | None = None) -> StoreUse:
    """What the object store holds and is asked for.

    merged: the rate that silver can merge, if it is less than the arriving rate.
    """
    sizes, asked = found.bytes, found.requests
    batch = batch_of(merged or load, found)
    objects = together(load, asked.bronze_flush_s.value)
    merges = batch.tables / batch.every_s
    each = _event_bytes(sizes.bronze_per_change.value, load, sizes)
    bronze = load.changes_per_second * each + objects * sizes.bronze_per_object.value
    return StoreUse(
        bronze_bytes=bronze * load.retention_days * SECONDS_A_DAY,
        silver_bytes=silver_bytes(load, sizes),
        old_versions_bytes=_old_versions(batch, sizes),
        writes_per_second=asked.writes_at_rest.value
        + objects
        + merges * asked.writes_per_table.value
        + asked.writes_per_batch.value / batch.every_s,
        reads_per_second=asked.reads_at_rest.value
        + merges * asked.reads_per_table.value
        + asked.reads_per_batch.value / batch.every_s,
    )


def at(load: Workload, changes_per_second: float) -> Workload:
    """The same workload at another rate."""
    return replace(load, changes_per_second=changes_per_second)


def limit_of(part: Part) -> float:
    """The measured limit of one instance, in changes a second; infinite if none was measured."""
    return part.changes_per_second_max.value if part.changes_per_second_max else math.inf


def _old_versions(batch: Batch, sizes: Bytes) -> float:
    if math.isinf(batch.seconds):
        return 0.0
    return batch.rewritten_bytes / batch.every_s * sizes.silver_versions_s.value


def _event_bytes(measured: float, load: Workload, sizes: Bytes) -> float:
    return max(measured, measured + load.row_bytes - sizes.row_bytes.value)
