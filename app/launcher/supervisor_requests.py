"""Requests the supervisor of a home to run services or to end, and waits for its reports."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.errors import HeadwaterError
from app.launcher.aot import WRITE_S_MAX
from app.launcher.leftovers import kill_leftovers
from app.launcher.observed_status import DONE, Progress, describe_stopping, show_changes
from app.launcher.state import Home, Observed, Wanted
from app.processes import log_files as logs
from app.processes.process import start_supervisor, start_time
from app.services.service import Services

POLL_S = 0.1
ANSWER_LIMIT_S = 20.0
UP_LIMIT_S = 3_600.0
STOP_GRACE_S = 30.0 + WRITE_S_MAX
# A supervisor beats at least every second, except while it copies programs at a first start.
HUNG_S = 45.0


class SupervisorRequests:
    """The requests of one command; the caller holds the home's lock while it makes one."""

    def __init__(self, home: Home, root: Path, described: Services) -> None:
        self._home = home
        self._root = root
        self._described = described
        self._started: subprocess.Popen[bytes] | None = None

    def run(self, names: Iterable[str]) -> int:
        """Ask the supervisor (start one if none lives) to run exactly these services.

        Returns: the generation of this request; the state file names it once it follows it.
        """
        wanted = Wanted(self._home.wanted().generation + 1, list(names))
        self._home.save_wanted(wanted)
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while self._home.is_supervised():
            pid = self._home.supervisor()
            if pid is not None:
                os.kill(pid, signal.SIGHUP)
                return wanted.generation
            if time.monotonic() > deadline:
                raise self._supervisor_died()
            time.sleep(POLL_S)  # it is just starting, or just ending
        self._started = start_supervisor(self._home.path, self._home.log_file, self._root)
        return wanted.generation

    def await_ready(self, names: Sequence[str], generation: int, progress: Progress) -> None:
        """Wait until these services are ready; HeadwaterError with the first failure."""
        started = time.monotonic()
        shown: dict[str, str] = {}
        while time.monotonic() < started + UP_LIMIT_S:
            snapshot = self._home.snapshot()
            if snapshot.generation < generation:
                self._check_supervisor(started)
                time.sleep(POLL_S)
                continue
            if self._home.wanted().generation != generation:
                gone = [name for name in names if name not in self._home.wanted().services]
                if gone:
                    raise HeadwaterError(f"another command stops {', '.join(gone)}")
                generation = self._home.wanted().generation
            observed = {name: snapshot.services.get(name, Observed()) for name in names}
            show_changes(observed, shown, started, progress)
            failed = [name for name in names if observed[name].state == "failed"]
            if failed:
                raise HeadwaterError(
                    **(observed[failed[0]].error or {"message": f"{failed[0]} failed"})
                )
            if all(one.state in DONE for one in observed.values()):
                return
            if not self._home.is_supervised():
                raise self._supervisor_died()
            time.sleep(POLL_S)
        raise HeadwaterError(f"not everything was ready within {UP_LIMIT_S:g} s")

    def _check_supervisor(self, started: float) -> None:
        late = time.monotonic() > started + ANSWER_LIMIT_S
        ended = self._started is not None and self._started.poll() is not None
        if late or ended:
            raise self._supervisor_died()

    def _supervisor_died(self) -> HeadwaterError:
        return HeadwaterError(
            "the supervisor does not answer",
            detail="\n".join(logs.tail(self._home.log_file, 8)),
            log=str(self._home.log_file),
            hint="stop what is left with `./headwater down`, then start again",
        )

    def await_end(self, names: Sequence[str], generation: int, progress: Progress) -> None:
        """Wait until these services have ended, for as long as they may take."""
        deadline = time.monotonic() + self._stop_limit_s(names)
        while time.monotonic() < deadline:
            snapshot = self._home.snapshot()
            alive = [n for n in names if snapshot.services.get(n, Observed()).pid is not None]
            if snapshot.generation >= generation and not alive:
                return
            progress.waiting(f"waiting for the end of {', '.join(alive)}")
            time.sleep(POLL_S)

    def end_all(self, progress: Progress, *, at_once: bool = False) -> bool:
        """Stop everything, the supervisor too; `at_once` if the data is deleted. Returns: whether anything was
        running."""
        self._want_nothing(progress)
        was_supervised = self._home.is_supervised()
        began = time.monotonic()
        deadline = began + self._stop_limit_s(list(self._described))
        asked: tuple[int, int] | None = None  # the supervisor's pid and start time
        while self._home.is_supervised() and time.monotonic() < deadline:
            pid = self._home.supervisor()
            if pid is not None and asked is None:
                asked = pid, start_time(pid) or 0
                os.kill(pid, signal.SIGQUIT if at_once else signal.SIGTERM)
                os.kill(pid, signal.SIGCONT)  # so that a supervisor stopped by a signal ends, too
            if min(self._home.silent_s(), time.monotonic() - began) > HUNG_S:
                break
            progress.waiting(describe_stopping(self._home.snapshot().services))
            time.sleep(POLL_S)
        pid = self._home.supervisor()
        if pid is not None:
            progress.note("the supervisor does not end: killing it")
            os.kill(pid, signal.SIGKILL)
        # It releases its lock a moment before it ends: `down` leaves nothing running.
        end_by = time.monotonic() + STOP_GRACE_S
        while asked and start_time(asked[0]) == asked[1] and time.monotonic() < end_by:
            time.sleep(POLL_S)
        left = kill_leftovers(self._home)
        for orphan, name in left.items():
            progress.note(f"ended a leftover process of {name} (pid {orphan})")
        return was_supervised or bool(left)

    def _want_nothing(self, progress: Progress) -> None:
        try:
            self._home.save_wanted(Wanted(self._home.wanted().generation + 1, []))
        except OSError as error:
            if not logs.is_full(error):
                raise
            # The signal is enough, and no supervisor reads the file before the next `up`.
            progress.note(f"the home's disk is full ({error.strerror}); stopping all the same")

    def _stop_limit_s(self, names: Sequence[str]) -> float:
        return STOP_GRACE_S + sum(self._described[name].stop.timeout_s for name in names)
