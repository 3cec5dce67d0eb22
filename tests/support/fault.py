"""The shape of every fault: a mixed load, something breaks, an alert fires, it is healed, nothing is lost.

with scene.load(seed):
    scene.suffer(Fault("kafka stands still", freeze, thaw, alerts=("KafkaDown",)))
scene.prove()
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import requests

from app.launcher.state import Home
from spark_streaming.contract.names import silver_table
from tests.support import tpcb
from tests.support.ddl_run import assert_bronze_is_whole, clear_quarantine, settle
from tests.support.lasting_workload import LARGE, LastingWorkload, stepping
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

MARKS = "fault_marks"
BRANCHES, ACCOUNTS = 2, 2_000
PAUSE_S = 0.1  # between the transactions of the only client: the parts need the CPU to recover
RECOVERY_S = 300.0
ALERT_S = 240.0
WAIT_FACTOR = 0.1  # alerts wait a tenth of what they wait in use
GOOD = ("ready", "completed", "unavailable", "stopped")


def nothing() -> None:
    """The fault ends by itself."""


@dataclass(frozen=True)
class Fault:
    """What breaks, and how it is healed.

    Args:
        alerts: one of them must fire before the healing, and end after it; none if it is over too soon for any.
        lasts_s: the least time until the healing.
    """

    name: str
    inject: Callable[[], object]
    heal: Callable[[], object] = nothing
    alerts: tuple[str, ...] = ()
    lasts_s: float = 0.0


class Scene:
    """A running stack, perhaps with Prometheus, on which faults are tried one after another."""

    def __init__(self, stack: Stack, dsn: str = "") -> None:
        self.stack = stack
        self.dsn = dsn or stack.settings.source_dsn  # what the load writes to
        self._marks = self._loads = 0
        self.workload: LastingWorkload | None = None

    @property
    def has_alerts(self) -> bool:
        return self.stack.observed("prometheus").state == "ready"

    def source(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A new connection on which each statement is committed at once."""
        return psycopg.connect(self.dsn, autocommit=True, connect_timeout=5)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """The tables of the load that stay for all faults, during the block."""
        with self.source() as source:
            source.execute(f"DROP TABLE IF EXISTS {', '.join(tpcb.TABLES)}".encode())
        tpcb.create(self.dsn, branches=BRANCHES, accounts=ACCOUNTS)
        with self.source() as source:
            source.execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
            source.execute(f"CREATE TABLE {MARKS} (id int PRIMARY KEY)".encode())
            source.execute(f"CREATE TABLE {LARGE} (id int PRIMARY KEY, body text)".encode())
        self.await_mark(self.mark())
        self.stack.await_tables("pgbench_accounts")
        yield
        with self.source() as source:
            source.execute(f"DROP TABLE {', '.join((MARKS, LARGE, *tpcb.TABLES))}".encode())

    @contextmanager
    def load(self, seed: int, reconnect_s: float = RECOVERY_S) -> Iterator[None]:
        """Write during the block: pgbench, random rows and definitions, large values, changed keys."""
        clients = tpcb.running(
            self.dsn, clients=1, branches=BRANCHES, accounts=ACCOUNTS, seed=seed,
            reconnect_s=reconnect_s, pause_s=PAUSE_S,
        )  # fmt: skip
        if self.workload is not None:  # of a test that failed before it dropped its tables
            with suppress(psycopg.Error):
                self.workload.drop_all()
        self._loads += 1
        self.workload = LastingWorkload(self.dsn, seed, number=self._loads, reconnect_s=reconnect_s)
        self.workload.begin()
        with self.source() as source:
            settle(source, self.workload)
        with clients as counts, stepping(self.workload):
            yield
        print(f"{sum(counts)} transactions; by kind: {dict(self.workload.done.most_common())}")

    def suffer(self, fault: Fault) -> float:
        """Let the load suffer one fault. Returns: seconds from the healing until all is well again."""
        began = time.monotonic()
        try:
            fault.inject()
            self._last_until(began + fault.lasts_s, fault)
        finally:
            fault.heal()
        healed = time.monotonic()
        self.await_mark(self.mark())
        self.await_well()
        well_s = time.monotonic() - healed
        print(f"{fault.name}: lasted {healed - began:.0f} s, well {well_s:.0f} s after it")
        wanted = set(fault.alerts)
        if wanted and self.has_alerts:
            until(
                lambda: wanted & self.firing(),
                lambda left: not left,
                within_s=ALERT_S,
                what=f"the end of {sorted(wanted)} after {fault.name}",
                every_s=1,
            )
            print(f"{fault.name}: its alerts ended {time.monotonic() - healed:.0f} s after it")
        return well_s

    def prove(self, bronze: bool = True) -> None:
        """Check that silver equals the source row by row, and that bronze is whole by counts."""
        found = self.compare()
        assert not any(found.values()), found
        if bronze:
            assert_bronze_is_whole(self.stack)
        assert self.workload is not None
        self.workload.drop_all()
        self.workload = None

    def compare(self) -> dict[str, int]:
        """Compare the load's tables with the source. Returns: rows lost, duplicated and wrong, tables not equal."""
        workload = self.workload
        assert workload is not None
        with self.source() as source:
            settle(source, workload)
        self.stack.run("verify", expect=None, timeout_s=600)  # waits until silver has all of it
        names = {silver_table("public", name): name for name in workload.tables}
        clear_quarantine(self.stack, workload, names, ())
        tables = [*names, LARGE, MARKS, *tpcb.TABLES]
        rows = self.stack.answer("verify", *tables, timeout_s=600, expect=None)
        print("\n".join(f"{row['table']}: {row['verdict']}, {row['rows']} rows" for row in rows))
        return {
            "lost": sum(row["missing"] for row in rows),
            "duplicated": sum(row["extra"] for row in rows),
            "wrong": sum(row["differing"] for row in rows),
            "not_equal": sum(row["verdict"] != "equal" for row in rows),
        }

    def mark(self) -> int:
        """Commit a row that was not there before, as soon as the source accepts one."""
        self._marks += 1

        def commit() -> bool:
            with self.source() as source:
                source.execute(
                    f"INSERT INTO {MARKS} VALUES (%s) ON CONFLICT DO NOTHING".encode(),
                    [self._marks],
                )
            return True

        until(commit, within_s=RECOVERY_S, what=f"mark {self._marks} is committed")
        return self._marks

    def await_mark(self, number: int, within_s: float = RECOVERY_S) -> None:
        """Wait until Trino shows a mark."""
        until(
            lambda: self.stack.query(f"SELECT max(id) FROM silver.{MARKS}")[0][0] or 0,
            lambda found: found >= number,
            within_s=within_s,
            what=f"mark {number} in Trino",
        )

    def await_well(self, within_s: float = RECOVERY_S) -> None:
        """Wait until every service is ready."""
        until(self.not_well, lambda found: not found, within_s=within_s, what="every service ready")

    def not_well(self) -> dict[str, str]:
        """Service → its state, of those that are not as they should be."""
        services = Home(self.stack.home).snapshot().services
        return {name: one.state for name, one in services.items() if one.state not in GOOD}

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        port = self.stack.settings.ports.number("prometheus")
        answer = requests.get(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=10).json()
        return {
            one["labels"]["alertname"]
            for one in answer["data"]["alerts"]
            if one["state"] == "firing"
        }

    def _last_until(self, end: float, fault: Fault) -> None:
        """Let the fault last, and at least until its alert fires; prints every alert that fires."""
        began, known, wanted = time.monotonic(), set[str](), set(fault.alerts)

        def enough() -> bool:
            now = time.monotonic()
            fired = self.firing() - known if self.has_alerts else set()
            for name in sorted(fired):
                print(f"{fault.name}: {name} fired after {now - began:.0f} s")
            known.update(fired)
            return now >= end and (not self.has_alerts or not wanted or bool(wanted & known))

        most_s = max(0.0, end - began) + ALERT_S
        until(enough, within_s=most_s, what=f"{sorted(wanted)} during {fault.name}", every_s=1)


@contextmanager
def fault_scene(
    *arguments: str, dsn: str = "", home: Path | None = None, **profile: Any
) -> Iterator[Scene]:
    """A stack of its own with alerts, prepared for faults.

    Args:
        arguments: further ones of `up`.
        dsn: the load's address of the source, if that is not the stack's.
        home: the stack's folder; by default a new one.
        profile: further keys of its profile.
    """
    folder = Path(tempfile.mkdtemp(prefix="headwater-profile-"))
    try:
        with fresh_stack(home) as stack:
            path = folder / "fault.toml"
            lines = {"alert_wait_factor": WAIT_FACTOR, **profile}
            path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in lines.items()))
            stack.up("--profile", str(path), *arguments)
            scene = Scene(stack, dsn)
            with scene.prepared():
                yield scene
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
