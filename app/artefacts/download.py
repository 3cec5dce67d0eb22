"""Downloads one file by HTTP, or copies it from a `file://` repository, until it is whole.

After a broken connection the download continues where it ended (`Range`). A file that is complete but
wrong is fetched once more from its start, because the part on disk may have been wrong.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from app.artefacts.certificates import certificates
from app.artefacts.locking.lock import LockedFile
from app.artefacts.locking.repository import MIRROR_VARIABLE, Repository
from app.errors import HeadwaterError

CONNECT_TIMEOUT_S = 15
READ_TIMEOUT_S = 60  # without a single byte
ATTEMPTS_WITHOUT_PROGRESS_MAX = 5
ATTEMPTS_MAX = 50  # a connection that is cut all the time still moves on, but not for ever
BACKOFF_S_MAX = 30.0
_CHUNK_BYTES = 1 << 18


class Cancelled(Exception):
    """The fetch was cancelled during this download."""


class _Retry(Exception):
    """This attempt failed; another one may succeed."""

    def __init__(self, observed: str, after_s: float = 0.0) -> None:
        super().__init__(observed)
        self.after_s = after_s


@dataclass(frozen=True)
class Download:
    """The download of one file into `part`.

    Args:
        reached: called with the position in the file, in bytes, as it moves (also backwards).
        cancelled: ends the download soon, with Cancelled.
        backoff_s: pause after the first failed attempt; it doubles with each further one.
    """

    repository: Repository
    file: LockedFile
    part: Path
    reached: Callable[[int], None]
    cancelled: threading.Event
    backoff_s: float = 1.0

    def run(self) -> None:
        """Return when `part` holds the file, verified; raises HeadwaterError if it never does."""
        observed = ""
        for _ in range(2):
            self._transfer()
            observed = self._difference()
            if not observed:
                return
            self.part.unlink()
            self.reached(0)
        raise HeadwaterError(
            f"{self.file.coordinate} arrives corrupt",
            detail=f"{self._address()}: {observed}",
            hint="a mirror or proxy serves something else than the locked file; "
            f"set {MIRROR_VARIABLE} to another mirror",
        )

    def _transfer(self) -> None:
        failures, position = 0, size_of(self.part)
        if position > self.file.size:
            self.part.unlink()
            position = 0
        for _ in range(ATTEMPTS_MAX):
            try:
                if self.repository.file_of(self.file.coordinate.path):
                    return self._copy()
                if position != self.file.size:
                    self._attempt()
                return
            except _Retry as error:
                observed = error
            moved, position = size_of(self.part) > position, size_of(self.part)
            failures = 1 if moved else failures + 1
            if failures >= ATTEMPTS_WITHOUT_PROGRESS_MAX:
                break
            pause_s = min(self.backoff_s * 2 ** (failures - 1), BACKOFF_S_MAX)
            self.cancelled.wait(max(pause_s, min(observed.after_s, BACKOFF_S_MAX)))
        hint = (
            "is the network there? a proxy is taken from HTTPS_PROXY or Maven's settings.xml, "
            f"a mirror from {MIRROR_VARIABLE} or settings.xml; what was downloaded is kept"
        )
        if "CERTIFICATE_VERIFY_FAILED" in str(observed):
            hint = "name the file with your network's certificates: REQUESTS_CA_BUNDLE=FILE"
        raise HeadwaterError(
            f"cannot fetch {self.file.coordinate}",
            detail=f"{self._address()}: {observed}",
            hint=hint,
        ) from observed

    def _attempt(self) -> None:
        start = size_of(self.part)
        # identity: a server that packs a packed file again would make ranges meaningless.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        url = self.repository.url_of(self.file.coordinate.path)
        try:
            with requests.get(
                url,
                headers=headers,
                stream=True,
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                auth=self.repository.login,
                proxies=self._proxies(url),
                verify=certificates(),
            ) as answer:
                self._refuse(answer, start)
                self._write(answer, start if answer.status_code == 206 else 0)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _Retry(_cause(error)) from error

    def _proxies(self, url: str) -> dict[str, str]:
        """Return the environment's proxies, else those of Maven's settings."""
        if requests.utils.should_bypass_proxies(url, no_proxy=None):
            return {}
        return requests.utils.get_environ_proxies(url) or self.repository.proxies

    def _refuse(self, answer: requests.Response, start: int) -> None:
        status = answer.status_code
        if status == 206:
            found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if found and int(found[1]) == start:
                return
            self.part.unlink()
            raise _Retry("the server answered with another range than asked for")
        if status == 200:
            return
        if status == 416:  # our part is longer than the server's file
            self.part.unlink()
            raise _Retry("HTTP 416")
        if status == 429 or status >= 500:
            wait = answer.headers.get("Retry-After", "")
            raise _Retry(f"HTTP {status}", float(wait) if wait.isdigit() else 0.0)
        hints = {
            401: "the mirror wants a log-in: put it into Maven's settings.xml or ~/.netrc",
            403: "the mirror or a proxy refuses it",
            404: "the mirror does not hold this file; does it mirror Maven Central?",
        }
        raise HeadwaterError(
            f"cannot fetch {self.file.coordinate}",
            detail=f"{self._address()}: HTTP {status}",
            hint=hints.get(status, f"try another mirror with {MIRROR_VARIABLE}"),
        )

    def _write(self, answer: requests.Response, position: int) -> None:
        end = position + int(answer.headers.get("Content-Length", self.file.size - position))
        with open(self.part, "ab" if position else "wb") as sink:
            self.reached(position)
            for chunk in answer.raw.stream(_CHUNK_BYTES, decode_content=False):
                if self.cancelled.is_set():
                    raise Cancelled
                sink.write(chunk)
                position += len(chunk)
                self.reached(position)
                if position > self.file.size:
                    return  # not the locked file: `run` says so
        if position < end:
            raise _Retry(f"the connection ended after {position:,} of {end:,} bytes")

    def _copy(self) -> None:
        source = self.repository.file_of(self.file.coordinate.path)
        assert source is not None
        try:
            with open(source, "rb") as content, open(self.part, "wb") as sink:
                while chunk := content.read(_CHUNK_BYTES):
                    if self.cancelled.is_set():
                        raise Cancelled
                    sink.write(chunk)
                    self.reached(sink.tell())
        except OSError as error:
            raise HeadwaterError(
                f"cannot fetch {self.file.coordinate}",
                detail=str(error),
                hint=f"does the mirror that {self.repository.chosen_by} names hold this file?",
            ) from error

    def _difference(self) -> str:
        size = size_of(self.part)
        if size != self.file.size:
            return f"it has {size:,} bytes, the lock says {self.file.size:,}"
        sha256 = sha256_of(self.part)
        if sha256 != self.file.sha256:
            return f"its SHA-256 is {sha256}, the lock says {self.file.sha256}"
        return ""

    def _address(self) -> str:
        return self.repository.shown(self.file.coordinate.path)


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 if there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _cause(error: BaseException) -> str:
    """Describe the innermost error; the outer ones hold the address with its log-in."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return f"{type(error).__name__}: {error}"
