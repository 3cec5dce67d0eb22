"""The supervisor finds real hanging processes and restarts them; `status` reports them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from app.launcher.liveness_probe import StoppedProcesses
from tests.support.postgres_server import free_port
from tests.support.tiny_services import READY_LOG, SERVER, Clone, wait_until

pytestmark = pytest.mark.unhurried  # each starts processes

WITH_CHILD = (
    """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
"""
    + SERVER
)
# Answers each connection until a file tells it to stop answering.
HTTP = """
import http.server, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while os.path.exists(sys.argv[1] + ".hang"): time.sleep(0.1)
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


def test_a_stopped_process_is_unresponsive_until_it_goes_on(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.up()
    pid = clone.seen("first").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: clone.seen("first").state == "unresponsive", "it is seen to hang")
    [row] = clone.stack().status(["first"])
    assert row.state == "unresponsive"
    assert row.last_error.startswith("service `first` runs and does not answer")
    assert f"process {pid} is stopped by a signal (SIGSTOP)" in row.last_error
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: clone.seen("first").state == "ready", "it answers again")
    assert clone.seen("first").pid == pid


def test_a_stopped_child_of_a_service_counts_as_the_service(clone: Clone) -> None:
    clone.describe("first", WITH_CHILD, ready=READY_LOG)
    clone.up()
    log = clone.home / "run" / "first" / "stdout.log"
    child = int(log.read_text().split("child ")[1].split()[0])
    os.kill(child, signal.SIGSTOP)
    wait_until(lambda: clone.seen("first").state == "unresponsive", "it is seen to hang")
    os.kill(child, signal.SIGCONT)
    wait_until(lambda: clone.seen("first").state == "ready", "it answers again")


def test_a_service_that_accepts_and_never_answers_is_unresponsive(clone: Clone) -> None:
    port = free_port()
    clone.describe("first", HTTP, ready=f'{{ http = "http://127.0.0.1:{port}/", timeout_s = 20 }}')
    toml = clone.root / "tiny" / "service.toml"
    toml.write_text(toml.read_text().replace(f'"{clone.ends}"]', f'"{clone.ends}", "{port}"]'))
    clone.up()
    hang = Path(f"{clone.ends}.hang")
    hang.touch()
    wait_until(lambda: clone.seen("first").state == "unresponsive", "it is seen to hang")
    assert "no answer in 3 s" in (clone.seen("first").error or {})["detail"]
    hang.unlink()
    wait_until(lambda: clone.seen("first").state == "ready", "it answers again")


def test_a_stopped_process_is_found_by_its_session_only() -> None:
    mine = os.getsid(0)
    stopped = StoppedProcesses()
    pid = os.posix_spawn("/bin/sleep", ["sleep", "600"], {}, setsid=True)
    try:
        assert stopped.of(pid) is None
        os.kill(pid, signal.SIGSTOP)
        seen_by = time.monotonic() + 30
        while stopped.of(pid) != pid:
            assert time.monotonic() < seen_by
        assert stopped.of(mine) is None
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
