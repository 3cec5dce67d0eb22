"""What a killed test run leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.stack import ROOT, processes_of
from tests.support.waiting import until

RUN = """
import time
from tests.support.stack import fresh_stack
with fresh_stack() as stack:
    stack.up("--only", "postgres")
    print(stack.home, flush=True)
    time.sleep(600)
"""


def test_the_stack_of_a_killed_test_run_is_stopped_and_removed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        home = Path(run.stdout.readline().strip())
        assert processes_of(home)
        run.send_signal(signal.SIGKILL)
    until(lambda: not home.exists(), within_s=120, what="the home's removal")
    assert processes_of(home) == []
