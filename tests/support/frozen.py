"""Stops processes without ending them, like a machine that swaps, is migrated, or is looked at in a debugger."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def frozen(pid: int | None, children: bool = True) -> Iterator[None]:
    """Stop a process, and its children, during the block."""
    assert pid is not None
    process = psutil.Process(pid)
    family = [process, *(process.children(recursive=True) if children else [])]
    for one in family:
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in family:
            with suppress(ProcessLookupError):  # a hanging service is restarted after a minute
                os.kill(one.pid, signal.SIGCONT)
