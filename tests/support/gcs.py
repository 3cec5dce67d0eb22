"""fake-gcs-server: an emulator of Google Cloud Storage, on loopback, in memory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, quote

import pytest
import requests

from tests.support.waiting import until

PROGRAM = "fake-gcs-server"  # its version: `.ci/programs`, which gets it where Go is installed
TOKENS = "/token"
_HOP = ("connection", "content-encoding", "content-length", "host", "transfer-encoding")


def fake_gcs_server() -> str:
    """The emulator's path, on PATH or in the folder of `go install`; skips the test without it."""
    folders = [os.environ.get("GOBIN"), str(Path.home() / "go" / "bin")]
    found = shutil.which(PROGRAM) or shutil.which(
        PROGRAM, path=os.pathsep.join(filter(None, folders))
    )
    if found is None:
        pytest.skip(f"no `{PROGRAM}`: install Go, then run .ci/programs")
    return found


class FakeGoogle:
    """A running emulator, used through its JSON API like Google."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def make_bucket(self, name: str) -> None:
        answer = requests.post(f"{self.endpoint}/storage/v1/b", json={"name": name}, timeout=10)
        answer.raise_for_status()

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """The names of a bucket's objects below a prefix."""
        found: list[str] = []
        token = ""
        while True:
            asked = {"prefix": prefix, "pageToken": token}
            url = f"{self.endpoint}/storage/v1/b/{bucket}/o"
            page = requests.get(url, params=asked, timeout=30).json()
            found += [item["name"] for item in page.get("items", [])]
            token = page.get("nextPageToken", "")
            if not token:
                return found

    def readers(self, bucket: str, key: str) -> list[str]:
        """The entities in an object's access list."""
        url = f"{self.endpoint}/storage/v1/b/{bucket}/o/{quote(key, safe='')}/acl"
        return [item["entity"] for item in requests.get(url, timeout=10).json()["items"]]


class _Altered(BaseHTTPRequestHandler):
    server: AlteredGoogle
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if self.path == TOKENS:
            self.server.assertions.append(parse_qs(body.decode())["assertion"][0])
            granted = b'{"access_token": "granted", "expires_in": 3600, "token_type": "Bearer"}'
            self._answer(200, {"Content-Type": "application/json"}, granted)
            return
        self.server.authorizations.add(self.headers.get("Authorization", ""))
        path = self.server.alter(self.path)
        if isinstance(path, int):
            self._answer(path, {}, b'{"error": {"message": "refused"}}')
            return
        kept = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        answer = requests.request(
            self.command, f"{self.server.google}{path}", data=body, headers=kept, timeout=30
        )
        self._answer(answer.status_code, dict(answer.headers), answer.content)

    do_GET = do_POST = do_PUT = do_DELETE = _pass

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class AlteredGoogle(ThreadingHTTPServer):
    """Forwards requests to an emulator with an altered path, or answers a status itself.

    It issues a token for any asserted identity, like Google's own token server.
    """

    daemon_threads = True

    def __init__(self, google: str, alter: Callable[[str], str | int]) -> None:
        super().__init__(("127.0.0.1", 0), _Altered)
        self.google, self.alter = google, alter
        self.authorizations: set[str] = set()
        self.assertions: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def altered(google: FakeGoogle, alter: Callable[[str], str | int]) -> Iterator[AlteredGoogle]:
    """The emulator behind a server that alters paths (with their query)."""
    with AlteredGoogle(google.endpoint, alter) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(timeout=10)


@contextmanager
def fake_google(*buckets: str) -> Iterator[FakeGoogle]:
    """An emulator with these buckets; it ends with the block, and its objects with it."""
    program = fake_gcs_server()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    places = ["-host", "127.0.0.1", "-port", str(port), "-public-host", address]
    places += ["-external-url", f"http://{address}"]
    command = [program, "-scheme", "http", "-backend", "memory", "-log-level", "error", *places]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            google = FakeGoogle(f"http://{address}")
            until(
                lambda: requests.get(f"{google.endpoint}/storage/v1/b", timeout=2).ok,
                within_s=30,
                what=f"{PROGRAM} at {address}",
            )
            for bucket in buckets:
                google.make_bucket(bucket)
            yield google
        finally:
            process.kill()


def google_profile(
    folder: Path, google: FakeGoogle | AlteredGoogle, bronze: str, lake: str, **other: str
) -> Path:
    """A profile with the emulator as its store; `other` settings add to or replace the right ones."""
    given = {
        "gcs_credentials": "none",
        "gcs_project": "test",
        "gcs_endpoint": google.endpoint,
        "bronze_bucket": bronze,
        "lake_bucket": lake,
        **other,
    }
    path = folder / "profile.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()))
    return path
