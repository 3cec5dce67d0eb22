"""A TCP proxy of a test's own on loopback, which delays, stops or cuts what passes it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LOOPBACK = "127.0.0.1"
PIECE_BYTES = 1 << 16
START_S = 10.0


class Proxy:
    """Forwards each connection to another port of this machine.

    Args:
        target: the port of the server; it may be set later.
        seed: of the places at which connections are cut.
    `port` is where the proxy listens.
    """

    def __init__(self, target: int = 0, seed: int = 0) -> None:
        self.target = target
        self.port = 0
        self._rng = random.Random(seed)
        self._latency_s = 0.0
        self._cut_bytes_max = 0
        self._open = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self.cuts = 0

    def break_off(self) -> None:
        """Let nothing pass, and tell nobody: as if the cable were pulled."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def delay(self, seconds: float) -> None:
        """Hold each piece for some time."""
        self._latency_s = seconds

    def cut(self, bytes_max: int) -> None:
        """End each connection, also the present ones, after 1 to `bytes_max` more bytes, in the middle."""
        self._cut_bytes_max = bytes_max

    def heal(self) -> None:
        """Forward again, at once and for good."""
        self._latency_s, self._cut_bytes_max = 0.0, 0
        self._loop.call_soon_threadsafe(self._open.set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        both = (writer, far_writer)
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, both), self._pump(far_reader, writer, both)
            )
        finally:
            for one in both:
                one.transport.abort()
                self._writers.discard(one)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        left = 0
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                await self._open.wait()
                if self._latency_s:
                    await asyncio.sleep(self._latency_s)
                if self._cut_bytes_max:
                    left = left or self._rng.randint(1, self._cut_bytes_max)
                    if len(piece) >= left:
                        writer.write(piece[:left])
                        self.cuts += 1
                        for one in both:
                            one.close()
                        return
                    left -= len(piece)
                writer.write(piece)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    async def _listen(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._open.set()
        ready.set()
        async with server:
            await server.serve_forever()

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Forward during the block; at its end all connections are ended."""
        ready = threading.Event()
        loop = self._loop

        def run() -> None:
            asyncio.set_event_loop(loop)
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(self._task)
            loop.run_until_complete(self._finish())
            loop.close()

        self._task = loop.create_task(self._listen(ready))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(START_S), "the proxy did not start"
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(self._task.cancel)
            thread.join(timeout=START_S)

    async def _finish(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
