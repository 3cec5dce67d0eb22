"""The real supervisor with tiny real processes: start, crash and stop, without leftovers."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from app.artefacts.lazy import LazyArtefacts
from app.environment.settings import load
from app.errors import HeadwaterError
from app.launcher.control import Stack
from app.processes.process import is_running, start_time
from tests.support.postgres_server import free_port
from tests.support.tiny_services import READY_LOG, SERVER, Clone, wait_until

pytestmark = pytest.mark.unhurried  # each starts processes


def test_up_starts_everything_and_down_ends_it_in_reverse_order(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.describe("second", ready=READY_LOG, depends_on='{ first = "healthy" }')
    clone.up()
    rows = {row.service: row for row in clone.stack().status()}
    assert {name: row.state for name, row in rows.items()} == {"first": "ready", "second": "ready"}
    assert all(row.pid and row.memory_mb and row.uptime_s is not None for row in rows.values())
    assert clone.down() is True
    assert clone.ends.read_text().split() == ["second", "first"]
    assert clone.down() is False


def test_where_its_data_is_to_go_a_stack_ends_at_once(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    last_words = SERVER.replace("SIGTERM", "SIGQUIT")
    clone.describe("second", last_words, ready=READY_LOG, stop='{ at_once = "SIGQUIT" }')
    clone.up()
    assert clone.stack().down(clone.notes, to_wipe=True) is True
    assert clone.ends.read_text().split() == ["second"], "the first one was killed"
    assert clone.processes() == []


def test_up_again_changes_nothing_and_more_services_may_be_added(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.describe("second", ready=READY_LOG)
    clone.up("first")
    pid = clone.seen("first").pid
    clone.up("first")
    clone.up()
    assert clone.seen("first").pid == pid
    assert clone.seen("second").state == "ready"


def test_a_service_that_has_to_be_named_runs_only_then(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.describe("extra", ready=READY_LOG, default="false", depends_on='{ first = "healthy" }')
    clone.up()
    assert [row.service for row in clone.stack().status()] == ["first"]
    clone.up("extra")
    clone.up()
    rows = {row.service: row.state for row in clone.stack().status()}
    assert rows == {"first": "ready", "extra": "ready"}


def test_up_waits_for_a_watcher_only_where_it_is_named(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.describe(
        "watcher",
        "import sys; sys.exit('no eyes')",
        awaited="false",
        ready=READY_LOG,
        depends_on='{ first = "healthy" }',
        restart="{ max_restarts = 0 }",
    )
    clone.up()
    assert clone.seen("first").state == "ready"
    wait_until(lambda: clone.seen("watcher").state == "failed", "the watcher has failed")
    clone.down()
    with pytest.raises(HeadwaterError, match="watcher"):
        clone.up("watcher")


def test_a_killed_service_comes_back_and_its_restart_is_counted(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG, restart="{ backoff_s = 0.1 }")
    clone.up()
    before = clone.seen("first")
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)

    def ready_again() -> bool:
        seen = clone.seen("first")  # read once, because the state may change between two reads
        return seen.state == "ready" and seen.pid != before.pid

    wait_until(ready_again, "first is ready again")
    [row] = clone.stack().status(["first"])
    assert row.restarts == 1
    assert row.last_error == "service `first` ended"
    assert (clone.seen("first").error or {})["detail"].startswith("killed by signal 9")


def test_what_a_dead_service_left_in_its_group_is_killed(clone: Clone) -> None:
    child = "import subprocess, sys\n"
    child += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    clone.describe("first", child + SERVER, ready=READY_LOG, restart='{ policy = "never" }')
    clone.up()
    assert len(clone.processes()) == 2
    os.kill(clone.seen("first").pid or 0, signal.SIGKILL)
    wait_until(lambda: clone.processes() == [], "the child is gone too")


def test_a_service_that_dies_at_start_ends_up_with_its_last_words(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    dies = "import sys; sys.exit('libfoo.so.3: no such file')"
    clone.describe(
        "second", dies, ready=READY_LOG, restart="{ backoff_s = 0.1 }",
        depends_on='{ first = "healthy" }',
    )  # fmt: skip
    with pytest.raises(HeadwaterError) as failure:
        clone.up()
    told = failure.value
    assert told.message == "service `second` ended before it was ready"
    assert told.detail == "exit code 1\nlibfoo.so.3: no such file"
    assert told.log == str(clone.home / "run" / "second" / "stderr.log")
    assert "./headwater logs second" in told.hint
    assert clone.processes() == []
    assert not clone.stack().home.is_supervised()


def test_a_failed_up_leaves_alone_what_ran_before(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.describe(
        "second", "raise SystemExit(4)", kind='"oneshot"', restart='{ policy = "never" }'
    )
    clone.up("first")
    pid = clone.seen("first").pid
    with pytest.raises(HeadwaterError, match="`second` failed"):
        clone.up()
    assert (clone.seen("first").state, clone.seen("first").pid) == ("ready", pid)
    assert len(clone.processes()) == 1


def test_a_missing_program_is_told(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG, restart="{ backoff_s = 0.1 }")
    text = (clone.root / "tiny" / "service.toml").read_text()
    (clone.root / "tiny" / "service.toml").write_text(text.replace("${python}", "/no/such/program"))
    with pytest.raises(HeadwaterError) as failure:
        clone.up()
    assert "cannot start /no/such/program: No such file or directory" in failure.value.detail


def test_a_killed_supervisor_leaves_nothing_running_and_up_repairs(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.describe("second", ready=READY_LOG)
    clone.up()
    pids = clone.processes()
    assert len(pids) == 2
    home = clone.stack().home
    os.kill(home.supervisor() or 0, signal.SIGKILL)
    wait_until(lambda: clone.processes() == [], "the kernel has ended the services")
    wait_until(lambda: not home.is_supervised(), "the lock is free")
    assert {row.state for row in clone.stack().status()} == {"stopped"}
    clone.up()
    assert {row.state for row in clone.stack().status()} == {"ready"}


def test_down_ends_what_outlived_its_supervisor(clone: Clone) -> None:
    # A child of the service in its own session survives a SIGKILL of the service.
    child = "import subprocess, sys\n"
    child += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    child += " start_new_session=True)\n"
    clone.describe("first", child + SERVER, ready=READY_LOG)
    clone.up()
    home = clone.stack().home
    leader = clone.seen("first").pid
    [orphan] = [pid for pid in clone.processes() if pid != leader]
    os.kill(home.supervisor() or 0, signal.SIGKILL)
    # The kernel ends the threads of both processes independently.
    wait_until(lambda: not home.is_supervised(), "the lock is free")
    wait_until(lambda: clone.processes() == [orphan], "the service is gone, its child is not")
    [row] = clone.stack().status()
    assert (row.state, row.pid) == ("orphaned", orphan)
    assert clone.down() is True
    assert clone.processes() == []


def test_a_service_that_ignores_sigterm_is_killed_after_its_time(clone: Clone) -> None:
    stubborn = SERVER.replace("signal.SIGTERM, end", "signal.SIGTERM, signal.SIG_IGN")
    clone.describe("first", stubborn, ready=READY_LOG, stop="{ timeout_s = 0.5 }")
    clone.up()
    pid = clone.seen("first").pid or 0
    assert clone.down() is True
    assert start_time(pid) is None


def test_a_taken_port_is_told_with_its_holder_before_anything_starts(clone: Clone) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        clone.describe("first", ports=f"{{ first = {port} }}")
        with pytest.raises(HeadwaterError) as failure:
            clone.up()
    assert failure.value.message == "a port is taken"
    assert f"{port} (first) is held by" in failure.value.detail
    assert f"pid {os.getpid()}" in failure.value.detail
    assert "--port-offset" in failure.value.hint
    assert not clone.stack().home.is_supervised()


@pytest.mark.parametrize("kind", ["tcp", "http", "command"])
def test_each_probe_makes_a_service_ready(clone: Clone, kind: str) -> None:
    serve = "import http.server, sys\n"
    serve += "http.server.HTTPServer(('127.0.0.1', int(sys.argv[2])),"
    serve += " http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    port = free_port()
    probes = {
        "tcp": '{ tcp = "127.0.0.1:${port.first}" }',
        "http": '{ http = "http://127.0.0.1:${port.first}/" }',
        "command": '{ command = ["/bin/sh", "-c", "test -e ${run}/made"] }',
    }
    code = f"open('made', 'w')\nimport sys; sys.argv.append('{port}')\n" + serve
    clone.describe("first", code, ready=probes[kind], ports=f"{{ first = {port} }}")
    clone.up()
    assert clone.seen("first").state == "ready"


def test_a_service_gets_its_files_and_a_closed_environment(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-javaagent:mine")
    code = "import os\nprint(dict(os.environ), open('lamp.conf').read(), flush=True)\n" + SERVER
    clone.describe(
        "first", code, ready=READY_LOG, files='{ "lamp.conf" = "lamp.conf" }',
        environment='{ COLOUR = "${setting.topic_prefix}" }',
    )  # fmt: skip
    (clone.root / "tiny" / "lamp.conf").write_text("password=${secret.lamp} path=$${x}")
    clone.up()
    out = (clone.home / "run" / "first" / "stdout.log").read_text()
    assert "'COLOUR': 'hw'" in out
    assert "'HEADWATER_TOPIC_PREFIX': 'hw'" in out
    assert "JAVA_TOOL_OPTIONS" not in out
    assert "path=${x}" in out
    assert (clone.home / "run" / "first" / "lamp.conf").stat().st_mode & 0o777 == 0o600


def test_temporary_files_of_a_killed_service_are_gone_with_its_next_start(clone: Clone) -> None:
    leaves_one = "import tempfile\ntempfile.mkstemp()\n" + SERVER
    clone.describe("first", leaves_one, ready=READY_LOG, restart="{ backoff_s = 0.1 }")
    clone.up()
    [left] = (clone.home / "run" / "first" / "tmp").iterdir()
    os.kill(clone.seen("first").pid or 0, signal.SIGKILL)
    wait_until(lambda: not left.exists(), "the next start has emptied the folder")


def test_an_unknown_variable_is_told_before_anything_starts(clone: Clone) -> None:
    clone.describe("first", files='{ "lamp.conf" = "lamp.conf" }')
    (clone.root / "tiny" / "lamp.conf").write_text("${port.torch}")
    with pytest.raises(HeadwaterError, match=r"unknown variable `\$\{port.torch\}` in .*lamp.conf"):
        clone.up()
    assert not clone.stack().home.is_supervised()


def test_a_running_stack_refuses_other_settings(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.up()
    stack = Stack(load(clone.home, topic_prefix="other"), clone.root)
    with pytest.raises(HeadwaterError, match="running with other settings"):
        stack.up(["first"], LazyArtefacts(clone.root), clone.notes)


def test_a_stack_with_data_refuses_another_source(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.up()
    clone.down()
    other = load(clone.home, source_dsn="postgresql://me:secret@db.example:5433/shop")
    with pytest.raises(HeadwaterError) as failure:
        Stack(other, clone.root).up(["first"], LazyArtefacts(clone.root), clone.notes)
    assert failure.value.detail == (
        "it holds the embedded store, but the settings name db.example:5433/shop"
    )


def test_wipe_removes_data_settings_and_secrets(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.up()
    with pytest.raises(HeadwaterError, match="the stack is running"):
        clone.stack().wipe()
    clone.down()
    clone.stack().wipe()
    left = {path.name for path in clone.home.iterdir()}
    assert left <= {"command.lock", "supervisor.lock"}


def test_state_of_an_earlier_boot_is_not_believed(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    home = clone.stack().home
    home.make()
    mine = os.getpid()
    home.state_file.write_text(
        '{"boot_id": "another boot", "generation": 3, "services": {"first":'
        f' {{"state": "ready", "pid": {mine}, "start_time": {start_time(mine)}}}}}}}'
    )
    [row] = clone.stack().status()
    assert (row.state, row.pid) == ("stopped", None)
    clone.up()
    assert clone.seen("first").state == "ready"


def test_a_cut_state_file_is_repaired(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    home = clone.stack().home
    home.make()
    home.state_file.write_text('{"boot_id": "x", "serv')
    home.wanted_file.write_text("")
    clone.up()
    assert clone.seen("first").state == "ready"


def test_a_process_is_named_by_pid_start_and_boot() -> None:
    mine = os.getpid()
    started = start_time(mine) or 0
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert is_running(mine, started, boot)
    assert not is_running(mine, started + 1, boot)
    assert not is_running(mine, started, "another boot")
