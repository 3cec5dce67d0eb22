"""An `up` that is interrupted, or runs beside another one, leaves nothing half-started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from itertools import islice

import pytest

from app.environment.settings import ROOT
from app.errors import HeadwaterError
from tests.support.tiny_services import READY_LOG, SERVER, Clone, wait_until

pytestmark = pytest.mark.unhurried  # each starts processes

# Like `headwater up`, with another folder of services.
DRIVER = """
import sys
from pathlib import Path
from app.printing import Steps
from app.launcher.control import Stack
from app.artefacts.lazy import LazyArtefacts
from app.environment.settings import load
home, root = map(Path, sys.argv[1:])
stack = Stack(load(home), root)
with Steps() as steps:
    stack.up(stack.select([]), LazyArtefacts(root), steps)
"""


def driver(clone: Clone) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(clone.home), str(clone.root)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        # A test run in the background ignores SIGINT, and this process would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def never_ready(clone: Clone, name: str) -> None:
    clone.describe(name, SERVER, ready='{ log = "not this", timeout_s = 300 }')


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_stops_what_it_has_started(clone: Clone, number: int) -> None:
    clone.describe("first", ready=READY_LOG)
    never_ready(clone, "second")
    with driver(clone) as up:
        wait_until(lambda: len(clone.processes()) == 2, "both run")
        up.send_signal(number)
        _, told = up.communicate(timeout=60)
    assert up.returncode != 0
    assert b"stopping what was started" in told
    assert clone.processes() == []
    assert not clone.stack().home.is_supervised()


def test_an_up_that_waits_for_a_slow_service_says_so_again_and_again(clone: Clone) -> None:
    never_ready(clone, "slow")
    with driver(clone) as up:
        assert up.stderr is not None
        told = (line.decode() for line in up.stderr)
        waits = (re.search(r"waiting for slow \(.*\) \((\d+) s\)", one) for one in told)
        first, second = islice((int(one[1]) for one in waits if one), 2)
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
    assert 0 < first < second <= first + 20


def test_down_elsewhere_ends_a_waiting_up(clone: Clone) -> None:
    never_ready(clone, "first")
    with driver(clone) as up:
        wait_until(lambda: len(clone.processes()) == 1, "it runs")
        assert clone.down() is True
        _, told = up.communicate(timeout=60)
    assert up.returncode != 0
    assert b"another command stops first" in told
    assert clone.processes() == []


def test_an_up_that_adds_services_does_not_disturb_a_waiting_one(clone: Clone) -> None:
    never_ready(clone, "first")
    with driver(clone) as up:
        wait_until(lambda: len(clone.processes()) == 1, "it runs")
        clone.describe("second", ready=READY_LOG)
        clone.up("second")
        assert up.poll() is None
        assert clone.seen("second").state == "ready"
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
    assert clone.seen("second").state == "ready"
    assert len(clone.processes()) == 1


def test_a_supervisor_that_cannot_start_is_told_with_its_words(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.describe("first", ready=READY_LOG)
    broken = clone.root / "broken"
    monkeypatch.setattr("app.launcher.control.sys.executable", str(broken))
    broken.write_text("#!/bin/sh\necho 'no such interpreter' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(HeadwaterError) as failure:
        clone.up()
    assert failure.value.message == "the supervisor does not answer"
    assert "no such interpreter" in failure.value.detail
    assert failure.value.log == str(clone.home / "supervisor.log")


def test_a_second_supervisor_of_a_home_ends_at_once(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.up()
    second = subprocess.run(
        [sys.executable, "-m", "app.launcher.supervisor", str(clone.home), str(clone.root)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert "has a supervisor already" in second.stderr
    assert clone.seen("first").state == "ready"
