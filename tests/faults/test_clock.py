"""Silver's clock jumps, and jumps back, while every other clock goes on (libfaketime; skipped without it).

Silver is the service's own process, Python and JVM, started beside a stack whose own silver has ended. The lease
and all waits go by the monotonic clock; the store refuses requests whose time is a quarter of an hour off.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.fault import Fault, Scene
from tests.support.waiting import until

LIBRARIES = tuple(
    Path(folder, "faketime", "libfaketimeMT.so.1")
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib")
)
SOON_S = 240.0
JUMPS_S = (300, -300, 3_600, -3_600)
REFUSED_S = 900  # beyond it the store refuses silver's requests
LASTS_S = 20.0

pytestmark = [
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(
        not any(path.exists() for path in LIBRARIES),
        reason="not on this machine: libfaketime (Debian's package)",
    ),
]


class Clock:
    """The clock of silver: a file that libfaketime reads each second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.jump(0)

    def jump(self, seconds: int) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._path)

    def environment(self) -> dict[str, str]:
        library = next(path for path in LIBRARIES if path.exists())
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


@contextmanager
def silver_by(clock: Clock, scene: Scene, log: Path) -> Iterator[None]:
    """Run the service `silver` by that clock during the block; then the stack's own again."""
    pid = scene.stack.observed("silver").pid
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")[:-1]
    folder = Path(f"/proc/{pid}/cwd").readlink()
    environment = dict(pair.split("=", 1) for pair in pairs) | clock.environment()
    scene.stack.stop("silver")
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=out)
    try:
        until(
            lambda: log.read_text(errors="replace"),
            lambda text: "silver is ready" in text,
            within_s=SOON_S,
            what="silver by another clock",
        )
        yield
        assert process.poll() is None, log.read_text(errors="replace")[-3_000:]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        scene.stack.up()


def test_silver_goes_on_when_its_clock_jumps(scene: Scene, seed: int, tmp_path: Path) -> None:
    clock, log = Clock(tmp_path / "clock"), tmp_path / "silver.log"
    with scene.load(seed), silver_by(clock, scene, log):
        for seconds in JUMPS_S:

            def jump(seconds: int = seconds) -> None:
                clock.jump(seconds)
                if abs(seconds) < REFUSED_S:
                    scene.await_mark(scene.mark())

            scene.suffer(
                Fault(f"a jump of {seconds} s", jump, lambda: clock.jump(0), lasts_s=LASTS_S)
            )
    scene.prove()
