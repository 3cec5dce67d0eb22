"""Moves the services' output from pipes into log files, in one thread of the supervisor.

Pipes are used for two reasons. Only the writer of a file can rotate it between two lines. And a
full disk then fails no service: output that cannot be written waits here, within a limit, and the
log itself says how many bytes beyond the limit were dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import threading
from collections import deque
from pathlib import Path

from app.processes import log_files as logs

PIPE_BYTES = 256 << 10  # the data that a service may write while the supervisor is stopped
CHUNK_BYTES = 64 << 10
PASSES_MAX = 64  # passes of one drain, which must end even if a service never stops writing
WAITING_BYTES_MAX = 1 << 20
LINE_FILES_MAX = 2  # a file may grow so far beyond its limit for the sake of one long line
RETRY_S = 1.0
DRAIN_LAST_S = 2.0


class LogFile:
    """One log file, and the output that waits to be written to it."""

    def __init__(self, path: Path, *, at_bytes: int = logs.ROTATE_AT_BYTES) -> None:
        self.path = path
        self.lost_bytes = 0
        self._at_bytes = at_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._within_line = False  # whether the file ends within a line
        self._file: int | None = None
        self._error = ""
        self.reopen()

    @property
    def waits(self) -> bool:
        return bool(self._waiting or self.lost_bytes)

    def reopen(self) -> None:
        """Open the file again if another one has its name by now; OSError if the name is a link."""
        with contextlib.suppress(FileNotFoundError):
            named = self.path.lstat()
            opened = os.fstat(self._file) if self._file is not None else None
            if opened is not None and os.path.samestat(opened, named):
                return
        self.close()
        try:
            self._file = logs.open_log(self.path)
        except OSError as error:
            if not logs.is_full(error):
                raise
            self._error = error.strerror or str(error)

    def take(self, data: bytes) -> None:
        """Write data; data that the disk refuses waits, and beyond the limit the oldest is dropped."""
        if self.waits:
            self._hold_back(data)
            self.retry()
            return
        rest = self._write(data)
        if rest:
            self._hold_back(rest)

    def retry(self) -> None:
        """Write the waiting data, as far as the disk takes it now."""
        if self._file is None:
            with contextlib.suppress(OSError):
                self.reopen()
        if self.lost_bytes:
            line_end = "\n" if self._within_line else ""
            notice = (
                f"headwater: {self.lost_bytes} bytes of output are left out here: {self._error}"
            )
            if self._write(f"{line_end}{notice}\n".encode(), whole=True):
                return
            self.lost_bytes = 0
        while self._waiting:
            data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            rest = self._write(data)
            if rest:
                self._waiting.appendleft(rest)
                self._waiting_bytes += len(rest)
                return

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _hold_back(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        while self._waiting_bytes > WAITING_BYTES_MAX:
            oldest = self._waiting.popleft()
            self._waiting_bytes -= len(oldest)
            self.lost_bytes += len(oldest)

    def _write(self, data: bytes, *, whole: bool = False) -> bytes:
        """Append data, after a rotation if the file is full.

        Args:
            whole: write all of it or nothing.
        Returns: the data that the disk refused.
        """
        if self._file is None:
            return data
        size = os.fstat(self._file).st_size
        if size + len(data) > self._at_bytes and size:
            end = 0 if not self._within_line else data.find(b"\n") + 1
            if end or not self._within_line or size > LINE_FILES_MAX * self._at_bytes:
                return self._rotate_and_write(data[:end], data[end:], whole=whole)
        rest = data
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self._error = error.strerror or str(error)
            if whole and len(rest) < len(data):
                os.ftruncate(self._file, size)
                rest = data
        written = data[: len(data) - len(rest)]
        if written:
            self._within_line = not written.endswith(b"\n")
        return rest

    def _rotate_and_write(self, line_end: bytes, rest: bytes, *, whole: bool) -> bytes:
        """End the current line in the old file, start a new file, and write the rest there."""
        assert self._file is not None
        try:
            while line_end:
                line_end = line_end[os.write(self._file, line_end) :]
            logs.shift(self.path)
        except OSError as error:
            self._error = error.strerror or str(error)
            return line_end + rest
        self._within_line = False
        self.close()
        with contextlib.suppress(OSError):
            self.reopen()
        return self._write(rest, whole=whole)


class LogPump:
    """Reads the pipes of all services in a thread of its own, until `close`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._files: dict[Path, LogFile] = {}
        self._closing = False
        self._waker, self._wake = os.pipe()
        self._selector.register(self._waker, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def open(self, path: Path) -> int:
        """Open a new pipe into the log at `path`; returns its writing end, which the caller closes.

        Raises: OSError if the log is a link, or cannot be opened for another reason than a full
        disk.
        """
        with self._lock:
            if path in self._files:
                self._files[path].reopen()
            else:
                self._files[path] = LogFile(path)
        reader, writer = os.pipe()
        with contextlib.suppress(OSError):  # beyond this user's limit: the usual 64 kB
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(reader, False)
        with self._lock:
            self._selector.register(reader, selectors.EVENT_READ, self._files[path])
        return writer

    def drain(self) -> None:
        """Write the pipes' current content: a process that just ended may have written its reason."""
        with self._lock:
            for _ in range(PASSES_MAX):
                if not self._pass(self._selector.select(0)):
                    return

    def close(self) -> None:
        """Write the remaining output and end the thread."""
        self.drain()
        self._closing = True
        os.write(self._wake, b".")
        self._thread.join(DRAIN_LAST_S)

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                waiting = any(file.waits for file in self._files.values())
            events = self._selector.select(RETRY_S if waiting else None)
            with self._lock:
                self._pass(events)
                for file in self._files.values():
                    if file.waits:
                        file.retry()

    def _pass(self, events: list[tuple[selectors.SelectorKey, int]]) -> int:
        """Read once from each readable pipe; returns how many of them held data."""
        known = self._selector.get_map()
        read = 0
        for key, _ in events:
            if key.data is None:
                continue
            try:
                data = os.read(key.fd, CHUNK_BYTES) if key.fd in known else None
            except BlockingIOError:
                data = None
            if data is None:
                continue
            if data:
                read += 1
                known[key.fd].data.take(data)
            else:
                self._selector.unregister(key.fd)
                os.close(key.fd)
        return read
