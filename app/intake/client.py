"""A client of the intake that needs only the standard library: copy this file into any program.

    with StreamClient("http://127.0.0.1:14091", token, "app_logs") as client:
        client.send({"service": "shop", "level": "INFO", "message": "started"})

A thread sends events in batches. Each event has an idempotency key. An event that was not
acknowledged is sent again with the same key: it arrives at least once, and silver has it once.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlsplit

# The intake's limits; a batch stays below them.
BATCH_EVENTS_MAX = 500
BATCH_BYTES_MAX = 4 << 20
TIMEOUT_S = 20.0
RETRY_S = (0.1, 5.0)

Event = Mapping[str, Any]


class IntakeError(Exception):
    """The intake refuses the whole request, or cannot be reached in time."""


@dataclass
class Sent:
    """What became of a batch: how many events were accepted, and the refused ones with the reason."""

    accepted: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Sent) -> None:
        """Add the counts of another batch."""
        self.accepted += other.accepted
        self.refused += other.refused


def event(
    data: Mapping[str, Any], *, key: str | None = None, time: datetime | None = None
) -> dict[str, Any]:
    """Make an event; without a key it gets a random one, without a time the current time."""
    moment = time or datetime.now(timezone.utc)
    return {"key": key or uuid.uuid4().hex, "time": moment.isoformat(), "data": dict(data)}


class Intake:
    """One stream of an intake: posts a batch again until it is acknowledged."""

    def __init__(self, url: str, token: str, stream: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not the address of an intake: {url!r}")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        self._path = f"{parts.path.rstrip('/')}/api/v1/streams/{quote(stream, safe='')}/events"
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def post(
        self,
        events: Sequence[Event],
        deadline_s: float,
        stop: threading.Event | None = None,
    ) -> Sent:
        """Send events until the intake has accepted or refused each of them.

        Raises: IntakeError if the intake refuses the whole request, or has not accepted all
            events
            within `deadline_s` or before `stop`; then send all again, with the same keys.
        """
        limit = time.monotonic() + deadline_s
        left, done, pause, last = list(events), Sent(), RETRY_S[0], ""
        while left:
            status, answer = self._attempt(left)
            if status == 200 or (status == 503 and "unknown" in answer):
                done.accepted += answer["accepted"]
                done.refused += [{**r, "event": left[r["index"]]} for r in answer["refused"]]
                left = [left[u["index"]] for u in answer.get("unknown", ())]
            elif status in (400, 401, 404, 411, 413, 415):
                raise IntakeError(f"the intake answers {status}: {_message(answer)}")
            if left:
                last = f"{status}: {_message(answer)}"
                if time.monotonic() + pause > limit or (stop is not None and stop.wait(pause)):
                    raise IntakeError(f"{len(left)} events are not acknowledged; last seen: {last}")
                if stop is None:
                    time.sleep(pause)
                pause = min(pause * 2, RETRY_S[1])
        return done

    def close(self) -> None:
        """Close the connection; the next post opens it again."""
        self._connection.close()

    def _attempt(self, events: list[Event]) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"events": events}, default=str).encode()
        try:
            self._connection.request("POST", self._path, body, self._headers)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            return 0, {"error": {"message": f"{type(error).__name__}: {error}"}}


class StreamClient:
    """Sends events of one stream in the background, in batches.

    Args:
        queue_events_max: events that may wait; beyond it `send` waits for room, and so slows its
            caller.
        linger_s: how long an event may wait for others to share its batch.
        retry_s: how long a batch is sent again; then its events are lost, and `on_lost` is called.
        on_refused: called with each refused event and the reason.
        on_lost: called with the lost events and the reason.
    """

    def __init__(
        self,
        url: str,
        token: str,
        stream: str,
        *,
        queue_events_max: int = 10_000,
        linger_s: float = 0.2,
        retry_s: float = 600.0,
        on_refused: Callable[[dict[str, Any]], None] | None = None,
        on_lost: Callable[[list[Event], str], None] | None = None,
    ) -> None:
        self.sent = Sent()
        self.lost = 0
        self._intake = Intake(url, token, stream)
        self._queue: queue.Queue[Event] = queue.Queue(queue_events_max)
        self._linger_s = linger_s
        self._retry_s = retry_s
        self._on_refused = on_refused
        self._on_lost = on_lost
        self._ending = threading.Event()
        self._giving_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"stream-{stream}", daemon=True)
        self._thread.start()

    def send(
        self,
        data: Mapping[str, Any],
        *,
        key: str | None = None,
        time: datetime | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """Queue one event; returns its key.

        Raises: queue.Full if there is no room within `timeout_s` (None: it waits),
            RuntimeError after `close`.
        """
        if self._ending.is_set():
            raise RuntimeError("the client is closed")
        made = event(data, key=key, time=time)
        self._queue.put(made, timeout=timeout_s)
        return str(made["key"])

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until every queued event is accepted, refused or lost. Returns: False if not in time."""
        limit = time.monotonic() + timeout_s
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks:
                left = limit - time.monotonic()
                if left <= 0:
                    return False
                self._queue.all_tasks_done.wait(left)
        return True

    def close(self, timeout_s: float = 30.0) -> bool:
        """Send the queued events, then end. Returns: False if some were left, which are lost."""
        done = self.flush(timeout_s)
        self._ending.set()
        if not done:
            self._giving_up.set()
        self._thread.join(TIMEOUT_S)
        return done

    def __enter__(self) -> StreamClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        postponed: Event | None = None
        while not (self._ending.is_set() and postponed is None and self._queue.empty()):
            batch, postponed = self._batch(postponed)
            if not batch:
                continue
            try:
                done = self._intake.post(batch, self._retry_s, self._giving_up)
                self.sent.add(done)
                if self._on_refused is not None:
                    for refused in done.refused:
                        self._on_refused(refused)
            except IntakeError as error:
                self.lost += len(batch)
                if self._on_lost is not None:
                    self._on_lost(batch, str(error))
            finally:
                for _ in batch:
                    self._queue.task_done()
        self._intake.close()

    def _batch(self, postponed: Event | None) -> tuple[list[Event], Event | None]:
        """Collect the next batch; also return an event that would have made it too large."""
        batch: list[Event] = []
        size, limit = 0, time.monotonic() + self._linger_s
        while len(batch) < BATCH_EVENTS_MAX:
            one, postponed = postponed, None
            if one is None:
                with contextlib.suppress(queue.Empty):
                    one = self._queue.get(timeout=max(0.0, limit - time.monotonic()))
            if one is None:
                break
            length = len(json.dumps(one, default=str))
            if batch and size + length > BATCH_BYTES_MAX:
                return batch, one
            batch.append(one)
            size += length
        return batch, None


def _message(answer: Mapping[str, Any]) -> str:
    error = answer.get("error")
    return str(error.get("message", "")) if isinstance(error, Mapping) else ""
