"""Nodes, disks, requests and cost of a workload, and which part breaks first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from app.deploy.sizing.coefficients import Coefficients
from app.deploy.sizing.demand import (
    GIB,
    SILVER,
    STORE,
    StoreUse,
    Workload,
    at,
    batch_of,
    cores_of,
    kafka_bytes,
    limit_of,
    store_use,
)
from app.deploy.sizing.prices import Prices

HOURS_A_MONTH = 730
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
REPLICAS = 3  # of Kafka, if there is more than one node
FRESHNESS_S = 10.0  # a batch that lasts longer makes silver stale
_SEARCH_MAX = 1e7
_SEARCH_STEPS = 60


@dataclass(frozen=True)
class PartSize:
    """One part. `carries`: changes a second of this workload's shape that one instance takes.

    `instances` is None if one is too small and a second takes nothing from it.
    """

    part: str
    instances: int | None
    cores: float
    memory_gib: float
    disk_gib: float
    carries: float
    remedy: str


@dataclass(frozen=True)
class Size:
    """The whole. `cost` is that of a month, by billed item, in the prices' currency.

    `batch_s`: how long a batch of silver lasts; infinite if one job does not keep up.
    """

    parts: list[PartSize]
    nodes: int
    replicas: int
    store: StoreUse
    batch_s: float
    cost: Mapping[str, float]

    @property
    def first_to_break(self) -> PartSize:
        return min(self.parts, key=lambda part: part.carries)


def size(load: Workload, found: Coefficients, prices: Prices) -> Size:
    """Compute everything. If silver does not keep up, its figures are those at its limit."""
    carried = {name: carries(name, load, found, prices) for name in found.parts}
    feasible = at(load, min(load.changes_per_second, carried[SILVER]))
    use = store_use(load, found, feasible)
    parts = [_part(name, load, feasible, found, carried[name]) for name in found.parts]
    nodes = nodes_for(parts, prices)
    replicas = REPLICAS if nodes > 1 else 1
    kafka_gib = kafka_bytes(load, found.bytes, replicas) / GIB / prices.disk.used_max
    stored = (use.bronze_bytes + use.silver_bytes + use.old_versions_bytes) / GIB
    parts = [_with_disk(part, kafka_gib, stored, replicas) for part in parts]
    nodes = max(nodes, replicas)
    cost = {
        "nodes": nodes * prices.node.per_hour * HOURS_A_MONTH,
        "kafka's disks": kafka_gib * prices.disk.per_gib_month,
        "stored bytes": stored * prices.store.per_gib_month,
        "writes": use.writes_per_second * SECONDS_A_MONTH / 1000 * prices.store.per_1000_writes,
        "reads": use.reads_per_second * SECONDS_A_MONTH / 1000 * prices.store.per_1000_reads,
    }
    return Size(parts, nodes, replicas, use, batch_of(load, found).seconds, cost)


def carries(name: str, load: Workload, found: Coefficients, prices: Prices) -> float:
    """The greatest rate, with this workload's tables and rows, that one instance takes."""
    cores = prices.node.cores * prices.node.cores_used_max

    def keeps_up(rate: float) -> bool:
        then = at(load, rate)
        if rate > limit_of(found.parts[name]):
            return False
        if name == SILVER and batch_of(then, found).seconds > FRESHNESS_S:
            return False
        if name == STORE:
            # An object store scales by itself, to the requests that it allows.
            used = store_use(then, found, at(load, min(rate, load.changes_per_second)))
            return used.writes_per_second <= prices.store.writes_per_second_max
        return cores_of(name, then, found) <= cores

    return greatest(keeps_up)


def greatest(holds: Callable[[float], bool]) -> float:
    """The greatest rate that `holds`, which is true below and false above it; 0 if none does."""
    low, high = 0.0, _SEARCH_MAX
    if holds(high):
        return math.inf
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def nodes_for(parts: list[PartSize], prices: Prices) -> int:
    """Nodes that hold the cores and the memory of all parts but the object store."""
    own = [part for part in parts if part.part != STORE]
    cores = sum(part.cores for part in own) / prices.node.cores_used_max
    memory = sum(part.memory_gib for part in own) / prices.node.memory_used_max
    return max(1, math.ceil(max(cores / prices.node.cores, memory / prices.node.memory_gib)))


def _part(
    name: str, load: Workload, feasible: Workload, found: Coefficients, carried: float
) -> PartSize:
    part = found.parts[name]
    wanted = max(1, math.ceil(load.changes_per_second / carried)) if carried else math.inf
    instances = int(wanted) if wanted == 1 or (part.scales and carried) else None
    memory_gib = part.memory_mib.value * (instances or 1) / 1024
    cores = cores_of(name, feasible if name == SILVER else load, found)
    return PartSize(name, instances, cores, memory_gib, 0.0, carried, part.remedy)


def _with_disk(part: PartSize, kafka_gib: float, stored_gib: float, replicas: int) -> PartSize:
    if part.part == STORE:
        return replace(part, disk_gib=stored_gib)
    if part.part != "kafka":
        return part
    brokers = max(part.instances or 1, replicas)
    memory_gib = part.memory_gib / (part.instances or 1) * brokers
    return replace(part, instances=brokers, memory_gib=memory_gib, disk_gib=kafka_gib)
