"""Tiny services in Python, run by the real supervisor in a home of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.artefacts.lazy import LazyArtefacts
from app.environment.settings import load
from app.launcher.control import Stack
from app.launcher.state import Observed
from app.processes.process import all_pids, environment_of, start_time
from tests.support.waiting import until

DEADLINE_S = 30.0

# Writes "up" and its end to a shared file; exits cleanly at SIGTERM.
SERVER = """
import os, signal, sys, time
def end(*_):
    with open(sys.argv[1], "a") as order: order.write(os.environ["HEADWATER_SERVICE"] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True: time.sleep(60)
"""


class Notes:
    """Records the progress for the test."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def waiting(self, text: str) -> None:
        pass


class Clone:
    """A folder of tiny services, and their stack."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone"
        (self.root / "tiny").mkdir(parents=True)
        self.home = folder / "home"
        self.ends = folder / "ends.txt"
        self.notes = Notes()
        self._described = ""

    def describe(self, name: str, code: str = SERVER, **given: Any) -> None:
        """Add a service that runs `code` in Python; `given` are lines of its table."""
        script = self.root / "tiny" / f"{name}.py"
        script.write_text(code)
        lines = "".join(f"{key} = {value}\n" for key, value in given.items())
        self._described += (
            f'[services.{name}]\ndescription = "{name}"\n'
            f'command = ["${{python}}", "-I", "${{folder}}/{name}.py", "{self.ends}"]\n{lines}'
        )
        (self.root / "tiny" / "service.toml").write_text(self._described)

    def stack(self) -> Stack:
        return Stack(load(self.home), self.root)

    def up(self, *only: str) -> None:
        stack = self.stack()
        stack.up(stack.select(only), LazyArtefacts(self.root), self.notes, named=only)

    def down(self) -> bool:
        return self.stack().down(self.notes)

    def seen(self, name: str) -> Observed:
        return self.stack().home.snapshot().services[name]

    def processes(self) -> list[int]:
        """All processes of this home except the supervisor."""
        found = []
        for pid in all_pids():
            environment = environment_of(pid)
            ours = environment.get("HEADWATER_HOME") == str(self.home)
            if ours and "HEADWATER_SERVICE" in environment and start_time(pid) is not None:
                found.append(pid)
        return found


READY_LOG = '{ log = "up", timeout_s = 20 }'


def wait_until(condition: Callable[[], object], what: str) -> None:
    until(condition, within_s=DEADLINE_S, what=what, every_s=0.02)
