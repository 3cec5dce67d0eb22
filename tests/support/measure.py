"""Measures the memory and CPU of every service during a benchmark."""

from __future__ import annotations

import json
import os
import statistics
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from tests.support.circumstances import circumstances
from tests.support.stack import Stack

SAMPLE_S = 0.5
MIB = 1 << 20


@dataclass
class Resources:
    """For each service: the peak resident memory (MiB) and the CPU used meanwhile (s).

    `total_mib` is the peak of the sum over all services.
    """

    peak_mib: dict[str, int] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    total_mib: int = 0

    def as_dict(self) -> dict[str, Any]:
        cpu = {name: round(seconds, 1) for name, seconds in sorted(self.cpu_s.items())}
        return {"peak_mib": dict(sorted(self.peak_mib.items())), "total_mib": self.total_mib} | {
            "cpu_s": cpu,
            "cpu_total_s": round(sum(self.cpu_s.values()), 1),
        }


@contextmanager
def watched(
    stack: Stack,
    only: Container[str] | None = None,
    also: Mapping[str, int] = MappingProxyType({}),
    uncounted: Container[str] = (),
    every_s: float = SAMPLE_S,
) -> Iterator[Resources]:
    """Sample every service of `stack` during the block; the result is complete at its end.

    Args:
        only: these services; each sample costs some milliseconds of CPU for each process.
        also: other processes, from name to pid.
        uncounted: names whose memory is not part of `total_mib`.
        every_s: between two samples.
    """
    running = {name: int(row["pid"]) for name, row in stack.status().items() if row["pid"]}
    pids = {name: pid for name, pid in running.items() if only is None or name in only}
    pids |= also
    result = Resources()
    stop = threading.Event()
    before = cpu_of(pids)

    def sample() -> None:
        while not stop.is_set():
            now = {name: _rss(pid) for name, pid in pids.items()}
            for name, mib in now.items():
                result.peak_mib[name] = max(mib, result.peak_mib.get(name, 0))
            together = sum(mib for name, mib in now.items() if name not in uncounted)
            result.total_mib = max(together, result.total_mib)
            stop.wait(every_s)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield result
    finally:
        stop.set()
        thread.join(timeout=10)
        result.cpu_s = {name: spent - before[name] for name, spent in cpu_of(pids).items()}


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds of each service's process and its children since their start, from service → pid."""
    return {name: _cpu(pid) for name, pid in pids.items()}


def memory_of(pids: Mapping[str, int]) -> dict[str, int]:
    """The memory (PSS, MiB) of each service's process and its children now, from service → pid."""
    return {name: _rss(pid) for name, pid in sorted(pids.items())}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99, maximum and number (n) of `values`, in their own unit; n alone without any."""
    if not values:
        return {"n": 0}
    ranked = sorted(values)
    last = len(ranked) - 1
    found = {f"p{percent}": ranked[round(percent / 100 * last)] for percent in (95, 99)}
    found = {"p50": statistics.median(ranked), **found, "max": ranked[last]}
    return {name: round(value, 3) for name, value in found.items()} | {"n": len(ranked)}


def report(name: str, figures: dict[str, Any]) -> None:
    """Print a benchmark's results with their circumstances, and write them as JSON to HEADWATER_BENCH_OUT."""
    text = json.dumps({"bench": name, **circumstances(), **figures}, indent=1)
    print(text)
    folder = os.environ.get("HEADWATER_BENCH_OUT")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.json").write_text(text + "\n")


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _rss(pid: int) -> int:
    total = 0
    for process in _family(pid):
        try:
            # Unique memory plus a proportional share of shared memory, because Postgres' processes share buffers.
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total // MIB


def _cpu(pid: int) -> float:
    total = 0.0
    for process in _family(pid):
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system
        total += used.children_user + used.children_system
    return total
