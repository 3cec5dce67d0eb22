"""Decides which failed connector tasks are restarted, and when; Connect itself restarts none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.connectors.worker import Task
from app.errors import HeadwaterError

RESTARTS_MAX = 10
BACKOFF_S = 2.0
BACKOFF_MAX_S = 60.0
# A task that ran this long after a restart has recovered: its count begins again at 0.
RECOVERED_AFTER_S = 300.0
# A restart never fixes this: the row stays in the source's log, and is too large each time.
TOO_LARGE = "RecordTooLargeException"


@dataclass
class _History:
    restarts: int = 0
    due_at: float = 0.0


class TaskRestarts:
    """Keeps the history of restarts; `due` returns the tasks that are to be restarted now."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._histories: dict[tuple[str, int | None], _History] = {}

    def due(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the failed tasks whose back-off is over.

        Raises: HeadwaterError, with the task's error, once a task was restarted RESTARTS_MAX times
            without recovering.
        """
        now = self._clock()
        chosen = []
        for task in tasks:
            place = (task.connector, task.task)
            history = self._histories.get(place)
            if task.state == "RUNNING" and history and now > history.due_at + RECOVERED_AFTER_S:
                del self._histories[place]
            if task.state != "FAILED":
                continue
            if TOO_LARGE in task.why:
                raise HeadwaterError(
                    f"connector {task} cannot continue: the change of a row is larger than a message may be",
                    detail=task.why,
                    hint="raise `message.max.bytes` (and `socket.request.max.bytes`) in connect/kafka/"
                    "server.properties, `producer.override.max.request.size` and `…buffer.memory` in "
                    "debezium/connector.json, and the heap of `connect`; then `down` and `up`",
                )
            history = self._histories.setdefault(place, _History(due_at=now))
            if now < history.due_at:
                continue
            if history.restarts >= RESTARTS_MAX:
                raise HeadwaterError(
                    f"connector {task} fails again and again: {history.restarts} restarts in a row",
                    detail=task.why,
                    hint="see `headwater logs connect`; fix what it waits for first",
                )
            history.restarts += 1
            history.due_at = now + min(BACKOFF_MAX_S, BACKOFF_S * 2 ** (history.restarts - 1))
            chosen.append(task)
        return chosen
