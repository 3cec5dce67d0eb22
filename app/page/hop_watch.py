"""Events of `headwater watch --hops` for all browsers, from one child while a browser is connected.

The child imports the clients of Kafka, Delta and Trino, which take some 150 MB. The page itself
thus stays small, and the child runs only while it is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence

log = logging.getLogger("page")
KEPT = 800
QUEUE_MAX = 1_000
# A page that is loaded again within this time gets the events that it had shown.
IDLE_S = 20.0
AGAIN_S = 3.0
ALIVE_S = 10.0
LINE_BYTES_MAX = 1 << 20


class Hops:
    """Runs the child and passes its lines on as server-sent events.

    Args:
        command: prints a line of JSON for each event on stdout, and notes for people on stderr;
            changes of
            the transactions that it reads from stdin are in every sample.
    """

    def __init__(self, command: Sequence[str], *, idle_s: float = IDLE_S) -> None:
        self._command = list(command)
        self._idle_s = idle_s
        self._queues: set[asyncio.Queue[str]] = set()
        self._kept: deque[tuple[int, str]] = deque(maxlen=KEPT)
        # Part of an event's id, so that ids of a previous process of the page are not mistaken for
        # ours.
        self._process = secrets.token_hex(4)
        self._number = 0
        self._runner: asyncio.Task[None] | None = None
        self._note = "starting"
        self._stdin: asyncio.StreamWriter | None = None

    async def events(self, last_id: str = "") -> AsyncIterator[str]:
        """Yield server-sent events for one browser: those that are kept, then new ones; never ends.

        last_id: the id of the last event that the browser has; kept events up to it are left out.
        """
        queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_MAX)
        self._queues.add(queue)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        try:
            yield "retry: 1000\n\n" + _event("note", self._note)
            process, _, number = last_id.partition("-")
            had = int(number) if process == self._process and number.isdecimal() else 0
            for event in [event for at, event in self._kept if at > had]:
                yield event
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), ALIVE_S)
                except asyncio.TimeoutError:
                    # An event, not a comment, which scripts do not see: a page that receives
                    # nothing for long connects again.
                    yield _event("alive", "")
        finally:
            self._queues.discard(queue)

    def follow(self, transaction: int) -> None:
        """Make sure that a transaction's changes are in the sample, however fast the stream is."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(b"%d\n" % transaction)

    async def stop(self) -> None:
        """End the child."""
        if self._runner is not None:
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner

    async def _run(self) -> None:
        while True:
            if not await self._child():
                self._kept.clear()
                if not self._queues:
                    return
                continue  # a browser connected while the child was being ended
            self._send(_event("note", "the observer ended and is started again"))
            await asyncio.sleep(AGAIN_S)

    async def _child(self) -> bool:
        """Run one child to its end. Returns: whether another one is needed."""
        self._send(_event("note", self._note))
        child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        assert child.stdout is not None and child.stderr is not None
        readers = [
            asyncio.create_task(self._read(child.stdout, "hop")),
            asyncio.create_task(self._read(child.stderr, "note")),
        ]
        ended = asyncio.create_task(child.wait())
        self._stdin = child.stdin
        try:
            while not ended.done():
                if not await self._is_watched(ended):
                    return False
            return True
        finally:
            self._stdin = None
            # For a browser that connects while the child is being ended: its last note is old.
            self._note = "starting"
            if child.returncode is None:
                child.terminate()
                try:
                    await asyncio.wait_for(ended, 5)
                except asyncio.TimeoutError:
                    child.kill()
            for reader in readers:
                reader.cancel()

    async def _is_watched(self, ended: asyncio.Task[int]) -> bool:
        """Wait a moment. Returns: False after `idle_s` without a browser, else True."""
        unwatched = 0.0
        while not self._queues and unwatched < self._idle_s:
            await asyncio.wait({ended}, timeout=min(1.0, self._idle_s))
            unwatched += min(1.0, self._idle_s)
            if ended.done():
                return bool(self._queues)
        if self._queues:
            await asyncio.wait({ended}, timeout=1.0)
            return True
        return False

    async def _read(self, stream: asyncio.StreamReader, kind: str) -> None:
        while line := await stream.readline():
            text = line.decode(errors="replace").rstrip()
            if kind == "note" and self._stdin is None:
                continue  # the child printed it while it was being ended
            if kind == "note":
                self._note = text
                self._send(_event("note", text))
            elif text:
                self._number += 1
                event = f"id: {self._process}-{self._number}\nevent: hop\ndata: {text}\n\n"
                self._kept.append((self._number, event))
                self._send(event)

    def _send(self, event: str) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()  # a browser that does not keep up misses the oldest
            queue.put_nowait(event)


def _event(kind: str, text: str) -> str:
    return f"event: {kind}\ndata: {json.dumps(text, ensure_ascii=False)}\n\n"
