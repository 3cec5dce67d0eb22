"""Erases rows from the tables that only this process writes: entries of quarantine, versions of histories.

The command `headwater erase` has erased the row's events in bronze before it asks (app/erase/README.md), so nothing that
is read from there from now on brings them back. Repeating a request changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from spark_streaming.events.event import Place
from spark_streaming.ops.erase_requests import EraseAnswer, EraseDesk, ErasedKey, EraseRequest
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.schema.topics import Topics

log = logging.getLogger(__name__)


class Erasures:
    """Carries out requests to erase.

    Args:
        is_own: whether a silver table is this job's.
        versions: removes the versions of keys from a table's history, in the thread that writes it; its result is their
            number.
    """

    def __init__(
        self,
        desk: EraseDesk,
        quarantine: Quarantine,
        topics: Topics,
        is_own: Callable[[str], bool],
        versions: Callable[[str, Sequence[ErasedKey]], Future[int]],
    ) -> None:
        self._desk = desk
        self._quarantine = quarantine
        self._topics = topics
        self._is_own = is_own
        self._versions = versions
        self._running: dict[str, tuple[int, Future[int]]] = {}

    def serve(self) -> None:
        """Begin what is asked, answer what is done; between two batches. Raises: OSError."""
        for request in self._desk.pending():
            if not self._is_own(request.table):
                continue
            try:
                answer = self._carry_out(request)
            except Exception as error:  # noqa: BLE001 - the answer says it, and the batches continue
                log.warning("erasure %s failed: %s", request.id, type(error).__name__)
                answer = EraseAnswer(error=f"{type(error).__name__}: {error}")
            if answer is not None:
                self._running.pop(request.id, None)
                self._desk.answer(request, answer)

    def _carry_out(self, request: EraseRequest) -> EraseAnswer | None:
        """Return the answer; None while the history has still to be written."""
        if request.id not in self._running:
            entries = self._withdraw(request.table, request.places)
            self._running[request.id] = (entries, self._versions(request.table, request.keys))
        entries, versions = self._running[request.id]
        return EraseAnswer(entries, versions.result()) if versions.done() else None

    def _withdraw(self, table: str, places: Sequence[Place]) -> int:
        """Remove the entries of these events, and the events. Returns: how many entries there were."""
        there = set(self._quarantine.places(table)) & set(places)
        # Also without entries: a crash may have left events behind.
        self._quarantine.withdraw(places)
        for name in {place.topic for place in there}:
            topic = self._topics.resolve(name, [])
            if topic.quarantined is not None:
                topic.quarantined.remove(there)
        return len(there)
