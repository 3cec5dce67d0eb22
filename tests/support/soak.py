"""Kills services at random under a mixed load, and reports what the stack was like meanwhile."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from app.launcher.state import Home
from app.services.description_parts import Restart
from tests.support.fault import Scene
from tests.support.measure import memory_of, percentiles
from tests.support.waiting import until

MIB = 1 << 20
PAIR_SHARE = 0.25  # of the kills that take two services at once
CALM_S = (0.0, 3.0)  # after all is well: kills come in each phase of a batch
OBSERVATIONS_MAX = 50
RECOVERY_S = 420.0  # a service that failed is tried again after five minutes at most
# A service that ends oftener than its description allows is left alone for minutes, as intended
# (`app/launcher/supervision/restart_policy.py`): no service is killed oftener than that.
LIMITS = {"capture": Restart(max_restarts=2)}


@dataclass
class Soak:
    """What a soak has seen so far."""

    kills: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    observed: list[dict[str, Any]] = field(default_factory=list)
    memory_start: dict[str, int] = field(default_factory=dict)
    memory_end: dict[str, int] = field(default_factory=dict)

    def report(self, seed: int, found: dict[str, int]) -> dict[str, Any]:
        """The figures of the run; recoveries are in seconds, memory is PSS in MiB."""
        each = [s for seconds in self.recoveries.values() for s in seconds]
        return {
            "seed": seed,
            "kills": sum(self.kills.values()),
            "kills_by_service": dict(sorted(self.kills.items())),
            "recovery_s": percentiles(each) if each else {},
            "recovery_s_by_killed": {
                name: percentiles(seconds) for name, seconds in sorted(self.recoveries.items())
            },
            **found,
            "memory_mib_start": self.memory_start,
            "memory_mib_end": self.memory_end,
            "over_time": self.observed,
        }


def soak(
    scene: Scene, seed: int, kills: int, *, hours: float = 0.0, services: Sequence[str] = ()
) -> Soak:
    """Kill until there were `kills`, or `hours` have passed if they are given.

    Args:
        services: those that may be killed; by default all that run.
    """
    rng, seen = random.Random(seed), Soak()
    began = time.monotonic()
    times: dict[str, list[float]] = {}
    scene.await_well()
    seen.memory_start = memory_of(running(scene))
    while sum(seen.kills.values()) < kills:
        passed = time.monotonic() - began
        if hours and passed > hours * 3600:
            break
        if len(seen.observed) < passed / observed_every_s(hours, kills):
            seen.observed.append(observe(scene, passed))
        time.sleep(rng.uniform(*CALM_S))
        left = kills - sum(seen.kills.values())
        chosen = choose(rng, services or sorted(running(scene)), times, min(left, 2))
        name = "+".join(chosen)
        seconds = kill(scene, chosen)
        seen.kills.update(chosen)
        seen.recoveries.setdefault(name, []).append(round(seconds, 1))
        print(f"kill {sum(seen.kills.values())}: {name}, well after {seconds:.1f} s", flush=True)
    scene.await_well()
    seen.observed.append(observe(scene, time.monotonic() - began))
    seen.memory_end = memory_of(running(scene))
    return seen


def kill(scene: Scene, chosen: Sequence[str]) -> float:
    """SIGKILL these services at once. Returns: seconds until all are ready, and Trino shows a new row."""
    before = {name: scene.stack.observed(name).pid for name in chosen}
    began = time.monotonic()
    for pid in before.values():
        with suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
    until(
        lambda: {name: scene.stack.observed(name).pid for name in chosen},
        lambda now: all(now[name] not in (None, before[name]) for name in chosen),
        within_s=RECOVERY_S,
        what=f"{' and '.join(chosen)} started again",
    )
    number = scene.mark()
    scene.await_well(RECOVERY_S)
    scene.await_mark(number, RECOVERY_S)
    return time.monotonic() - began


def choose(
    rng: random.Random, services: Sequence[str], times: dict[str, list[float]], most: int
) -> list[str]:
    """One service, sometimes two, of those that their restart policy would start again at once."""
    now = time.monotonic()
    able = []
    for name in services:
        limit = LIMITS.get(name, Restart())
        times[name] = [at for at in times.get(name, []) if at > now - limit.window_s]
        if len(times[name]) < limit.max_restarts:
            able.append(name)
    count = 2 if most > 1 and rng.random() < PAIR_SHARE else 1
    chosen = sorted(rng.sample(able, min(count, len(able))))
    for name in chosen:
        times[name].append(now)
    return chosen


def running(scene: Scene) -> dict[str, int]:
    """Service → pid of each that runs."""
    services = Home(scene.stack.home).snapshot().services
    return {name: one.pid for name, one in services.items() if one.pid is not None}


def observed_every_s(hours: float, kills: int) -> float:
    """So that a run has at most some OBSERVATIONS_MAX of them."""
    return max(60.0, (hours * 3600 or kills * 30) / OBSERVATIONS_MAX)


def observe(scene: Scene, passed_s: float) -> dict[str, Any]:
    """Measure the home's files, the share of Delta's logs in silver, each service's memory, and the machine's busy share.

    The share is that since the observation before; of the first one it means nothing.
    """
    home = scene.stack.home
    store = list(sizes(home / "data" / "s3"))
    silver = [(path, size) for path, size in store if "/silver/" in path]
    log = sum(size for path, size in silver if "/_delta_log/" in path)
    return {
        "minute": round(passed_s / 60, 1),
        "store_files": len(store),
        "store_mib": sum(size for _, size in store) // MIB,
        "silver_files": len(silver),
        "log_share_pct": round(100 * log / max(1, sum(size for _, size in silver)), 1),
        "home_mib": sum(size for _, size in sizes(home)) // MIB,
        "logs_mib": sum(size for _, size in sizes(home / "run")) // MIB,
        "supervisor_mib": psutil.Process(scene.stack.supervisor_pid).memory_full_info().pss // MIB,
        "stack_mib": memory_of({"stack": scene.stack.supervisor_pid})["stack"],
        "memory_mib": memory_of(running(scene)),
        "busy_pct": round(100 - psutil.cpu_times_percent().idle, 1),
    }


def sizes(folder: Path) -> list[tuple[str, int]]:
    """Path and size of each file below a folder that files leave and join meanwhile."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with suppress(OSError):
                found.append((str(path), path.lstat().st_size))
    return found
