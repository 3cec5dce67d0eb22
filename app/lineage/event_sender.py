"""Sends OpenLineage events to `openlineage_url` in a thread of its own, so that nothing waits for the receiver.

Only the newest event of each object waits, so there are never more events than objects. If the receiver
does not answer, the sender retries after RETRY_S, later every RETRY_MAX_S; an incident is open until then.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from app.environment.loopback import direct_session
from app.environment.signed_in import without_user
from app.lineage.edge import Edge, Place
from spark_streaming.ops.incident_rows import OPEN
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.storage.lake import Lake

if TYPE_CHECKING:
    import requests

log = logging.getLogger("registrar")
INCIDENT = "lineage_receiver"
URL = "HEADWATER_OPENLINEAGE_URL"
TIMEOUT_S = 5.0
RETRY_S, RETRY_MAX_S = 5.0, 300.0
# The receiver refuses this event, not every event: the next one is sent.
_UNLIKED = (400, 413, 422)
# Further events are dropped, and logged.
WAITING_MAX = 10_000


class EventSender:
    """One receiver. `offer` and `stop` may be called from any thread.

    Args:
        url: where events are posted, `https://user:password@host/api/v1/lineage`, or with a token alone
            before the host, which is sent as `Authorization: Bearer`.
        event_of: makes an object's event from the object's edges and the time.
        incidents: records an incident while the receiver does not accept events.
        retry_s: the first wait before a retry.
    """

    def __init__(
        self,
        url: str,
        event_of: Callable[[Place, Collection[Edge], str], str],
        incidents: IncidentLog,
        retry_s: float = RETRY_S,
    ) -> None:
        self._session, self._url = receiver(url)
        self._event_of = event_of
        self._incidents = incidents
        self._retry_s = retry_s
        self._changed = threading.Condition()
        self._sent: dict[Place, frozenset[Edge]] = {}
        self._waiting: dict[Place, frozenset[Edge]] = {}
        self._stopped = threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._serve, name="openlineage", daemon=True)
        self._thread.start()

    def offer(self, edges: Collection[Edge]) -> None:
        """Accept all edges; the events of objects whose edges have changed are sent soon."""
        from app.lineage.openlineage_events import by_target

        now = by_target(edges)
        with self._changed:
            new = {one: some for one, some in now.items() if self._sent.get(one) != some}
            kept = dict(list(new.items())[:WAITING_MAX])
            if len(kept) < len(new):
                log.warning("openlineage_url: %d events are dropped", len(new) - len(kept))
            self._waiting = kept
            self._changed.notify()

    def stop(self) -> None:
        """Stop sending."""
        self._stopped.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(TIMEOUT_S)

    def _serve(self) -> None:
        wait_s = self._retry_s
        while not self._stopped.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped.is_set())
                if self._stopped.is_set():
                    return
                place, edges = next(iter(self._waiting.items()))
            problem = self._send(place, edges)
            self._report(problem)
            if problem:
                self._stopped.wait(wait_s)
                wait_s = min(wait_s * 2, RETRY_MAX_S)
                continue
            wait_s = self._retry_s
            with self._changed:
                self._sent[place] = edges
                if self._waiting.get(place) == edges:
                    del self._waiting[place]

    def _send(self, place: Place, edges: Collection[Edge]) -> str:
        """Post one event. Returns: why it was not accepted; "" if it was."""
        try:
            text = self._event_of(place, edges, datetime.now(timezone.utc).isoformat())
        except ValueError as error:  # an event that cannot be made does not stop the others
            log.warning(
                "the lineage of %s does not make a valid OpenLineage event: %s", place, error
            )
            return ""
        try:
            answer = self._session.post(
                self._url,
                data=text.encode(),
                headers={"Content-Type": "application/json"},
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
        except OSError as error:  # errors of `requests` are OSErrors
            return f"{self._url} does not answer: {type(error).__name__}"
        if answer.ok and not answer.is_redirect:
            return ""
        if answer.status_code in _UNLIKED:
            log.warning(
                "openlineage_url: the event of %s is refused: status %d", place, answer.status_code
            )
            return ""
        return f"{self._url} refuses events: status {answer.status_code}"

    def _report(self, problem: str) -> None:
        if problem == self._problem:
            return
        if problem:
            log.warning("openlineage_url: %s; lineage continues without it", problem)
            self._incidents.open_incident(INCIDENT, "openlineage_url", cause=problem, recurs=True)
        else:
            log.info("openlineage_url: the receiver accepts events")
            for one in self._incidents.incidents(state=OPEN, kind=INCIDENT):
                self._incidents.close_incident(one.id, "it accepts events again")
        self._problem = problem


def receiver(url: str) -> tuple[requests.Session, str]:
    """Return a session with the URL's credentials, and the URL without them."""
    session, parts = direct_session(), urlsplit(url)
    if parts.password is not None:
        session.auth = (unquote(parts.username or ""), unquote(parts.password))
    elif parts.username:
        session.headers["Authorization"] = f"Bearer {unquote(parts.username)}"
    return session, without_user(url)


def sender_from_environment(
    lake: Lake, environment: Mapping[str, str] = os.environ
) -> EventSender | None:
    """Make a service's sender, or None if the stack has no `openlineage_url`."""
    url = environment.get(URL)
    if not url:
        return None
    from functools import partial

    from app.lineage.openlineage_events import event_of, naming_of

    naming = naming_of(environment)
    incidents = IncidentLog(lake)
    try:
        incidents.refresh()  # the first accepted event closes an incident that an earlier process left open
    except Exception as error:  # noqa: BLE001 - it only tells
        log.debug("%s", error)
    return EventSender(url, partial(_event, event_of, naming), incidents)


def _event(
    make: Callable[..., str], naming: object, place: Place, edges: Collection[Edge], time: str
) -> str:
    return make(place, edges, naming, time)
