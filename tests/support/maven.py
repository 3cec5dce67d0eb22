"""A tiny Maven repository on loopback that can misbehave, and a clone with a matching lock."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from app.artefacts.locking.coordinates import Coordinate
from app.artefacts.locking.lock import LockedFile


def locked(coordinate: str, content: bytes) -> LockedFile:
    digest = hashlib.sha256(content).hexdigest()
    return LockedFile(Coordinate.parse(coordinate), len(content), digest)


@dataclass
class Registry:
    """Serves files by HTTP, as a context manager.

    `cuts`: path → the number of bytes after which the connection is dropped, one entry for each answer.
    `statuses`: path → the status to answer instead of the file, one entry for each answer.
    `ranges`: whether a Range is honoured. `gate`: answers after the first `ungated` ones wait for it
    after their first byte.
    """

    content: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    gate: threading.Event = field(default_factory=threading.Event)
    ungated: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, Range

    def add(self, coordinate: str, content: bytes) -> LockedFile:
        file = locked(coordinate, content)
        self.content[file.coordinate.path] = content
        return file

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/maven"

    def __enter__(self) -> Registry:
        registry = self
        self.gate.set()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry._answer(self)

            do_HEAD = do_POST = do_GET  # requests of other clients must be recorded, too

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.removeprefix("/maven/")
        wanted = request.headers.get("Range", "")
        self.asked.append((path, wanted))
        request.close_connection = True
        if self.statuses.get(path):
            return self._empty(request, self.statuses[path].pop(0))
        if path not in self.content:
            return self._empty(request, 404)
        content = self.content[path]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(content):
            return self._empty(request, 416)
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        end = self.cuts[path].pop(0) if self.cuts.get(path) else len(content)
        request.wfile.write(content[start : start + 1])
        request.wfile.flush()
        if len(self.asked) > self.ungated:
            self.gate.wait(timeout=60)
        request.wfile.write(content[start + 1 : end])

    @staticmethod
    def _empty(request: BaseHTTPRequestHandler, status: int) -> None:
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()
