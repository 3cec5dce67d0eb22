"""An S3 store on loopback that accepts every put, like Google's S3 interface; or one that refuses all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from spark_streaming.storage.store_address import ObjectStore

_EMPTY_LIST = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


class OverwritingServer(ThreadingHTTPServer):
    """Answers each put with the next of `answers`, then always with the last; stores nothing."""

    daemon_threads = True

    def __init__(self, answers: tuple[int, ...]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.puts: list[str] = []

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(
            f"http://127.0.0.1:{self.server_address[1]}", "us-east-1", "key", "secret"
        )


class _Handler(BaseHTTPRequestHandler):
    server: OverwritingServer
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        number = len(self.server.puts)
        self.server.puts.append(self.path)
        self._answer(self.server.answers[min(number, len(self.server.answers) - 1)])

    def do_GET(self) -> None:
        self._answer(200, _EMPTY_LIST)

    def do_HEAD(self) -> None:
        self._answer(404)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def overwriting_store(*answers: int) -> Iterator[OverwritingServer]:
    """A store that answers puts with these HTTP statuses; with 200 if there are none."""
    with OverwritingServer(answers or (200,)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(timeout=10)
