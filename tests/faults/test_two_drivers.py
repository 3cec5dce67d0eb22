"""Two drivers of silver on one lake with one checkpoint: one works, the other waits.

They are the service's own process, started twice beside a stack that does not run silver.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.test_kills import verify_bench_tables
from tests.support import tpcb
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

BRANCHES, ACCOUNTS = 2, 2_000
PAUSE_S = 0.05
SOON_S = 240.0
WAITS, LEADS, READY = (
    "another driver of silver works on this lake", "this is silver's driver", "silver is ready",
)  # fmt: skip

pytestmark = pytest.mark.timeout(1_500)


class Driver:
    """The service `silver` as a process group of the test."""

    def __init__(self, name: str, folder: Path, command: list[str], like: dict[str, str]) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._command = command
        self._environment = {
            **like,
            "HEADWATER_SILVER_DATA": str(folder / name),
            "HEADWATER_SILVER_CHECKPOINT": "s3a://lake/checkpoint/silver",
            "HEADWATER_SPARK_UI_PORT": "0",
            "HEADWATER_METRICS_PORT": "0",
        }
        (folder / name).mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to Python and its JVM, as if the machine stopped or continued."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> int:
        """Stop it like the supervisor. Returns: its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def says(self, what: str, within_s: float = SOON_S) -> None:
        def found() -> str:
            assert self.process is not None
            return what if what in self.text() else f"{self.process.poll()}: {self.text()[-3000:]}"

        until(found, lambda text: text == what, within_s=within_s, what=f"{what} of {self.name}")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack with pgbench's tables in silver, whose own driver has ended."""
    with fresh_stack() as fresh:
        fresh.up("--only", "silver", "tables", "capture")
        tpcb.create(fresh.settings.source_dsn, branches=BRANCHES, accounts=ACCOUNTS)
        with fresh.source() as source:
            source.execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
        fresh.await_answer("SELECT count(*) FROM pgbench_accounts", [(ACCOUNTS,)], within_s=SOON_S)
        yield fresh


@pytest.fixture
def drivers(stack: Stack, tmp_path: Path) -> Iterator[tuple[Driver, Driver]]:
    pid = stack.observed("silver").pid
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")[:-1]
    like = dict(pair.split("=", 1) for pair in pairs)
    stack.stop("silver")
    both = (Driver("a", tmp_path, command, like), Driver("b", tmp_path, command, like))
    try:
        yield both
    finally:
        for one in both:
            if one.process is not None:
                one.signal(signal.SIGKILL)
                one.process.wait(timeout=30)


def test_a_paused_driver_is_superseded_and_one_that_ends_is_followed_and_silver_stays_equal(
    stack: Stack, drivers: tuple[Driver, Driver], seed: int
) -> None:
    a, b = drivers
    load = tpcb.running(
        stack.settings.source_dsn,
        clients=2, branches=BRANCHES, accounts=ACCOUNTS, seed=seed, pause_s=PAUSE_S,
    )  # fmt: skip
    with load as counts:
        a.start()
        a.says(READY)
        b.start()
        b.says(WAITS)
        done = sum(counts)
        until(lambda: sum(counts), lambda n: n > done + 100, within_s=SOON_S, what="transactions")
        assert LEADS not in b.text()

        a.signal(signal.SIGSTOP)
        b.says(LEADS)
        b.says("against earlier drivers (epoch ")
        a.signal(signal.SIGCONT)  # while the other begins
        assert a.process is not None
        assert a.process.wait(timeout=90) == 1, a.text()[-3000:]
        assert "has taken over" in a.text()
        b.says(READY)

        a.start()
        a.says(WAITS)
        assert b.end() == 0, b.text()[-3000:]
        a.says(READY)
        assert "against earlier drivers" not in a.text(), "the lease was released"
        done = sum(counts)
        until(lambda: sum(counts), lambda n: n > done + 100, within_s=SOON_S, what="transactions")
    print(f"{sum(counts)} transactions")
    verify_bench_tables(stack)
    assert a.end() == 0
