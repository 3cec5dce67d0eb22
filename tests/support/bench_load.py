"""The load of `python -m app.store bench`, in a process of its own beside a benchmark."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.stack import ROOT, Stack

STOP_S = 60
SEED = 1


@dataclass
class Load:
    """A load that a process of its own makes on `tables`; `report` has what it made, once it has ended."""

    tables: list[str]
    pid: int | None = None
    report: dict[str, Any] = field(default_factory=dict)


@contextmanager
def loaded(
    stack: Stack, rate: float, *, tables: int = 1, rows: int = 2_000, seed: int = SEED
) -> Iterator[Load]:
    """Make this many single-row changes a second over `bench_1` … meanwhile; 0 only fills the tables."""
    load = Load([f"bench_{number}" for number in range(1, tables + 1)])
    given = {"tables": tables, "rate": rate or 1, "rows": rows, "seed": seed}
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "app.store", "bench", *options]
    if not rate:
        command += ["--seconds", "0.01"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            if not rate:
                process.wait(timeout=600)
            stack.await_tables(*load.tables)
            load.pid = process.pid if rate else None
            yield load
        finally:
            process.send_signal(signal.SIGTERM)
            answer, _ = process.communicate(timeout=STOP_S)
            load.report = json.loads(answer or "{}") if rate else {}
