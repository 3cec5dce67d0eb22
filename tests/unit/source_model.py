"""A model of one source table and of the events that Debezium sends of it.

`Source` runs random transactions, which overlap and hold locks as in Postgres, and streams them
as Debezium does: whole, in commit order, over several partitions.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.events.layout import PLACEHOLDER
from spark_streaming.events.resync_events import ResyncEnd, resync_end

TOPIC = "hw.public.films"

Row = dict[str, Any]


@dataclass
class Transaction:
    """One open transaction: its row versions, its locks, its events."""

    changed: dict[int, Row | None] = field(default_factory=dict)
    added: list[Row] = field(default_factory=list)
    locks: set[int] = field(default_factory=set)
    truncates: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)


class Source:
    """One table with random transactions, and the events that Debezium would send."""

    def __init__(
        self, random: Random, contract: Contract, partitions: int, toast: bool = True
    ) -> None:
        self.random = random
        self.unchanged = PLACEHOLDER if toast else None  # what stands for an unchanged big value
        self.contract = contract
        self.partitions = partitions
        self.rows: dict[int, Row] = {}  # committed; of a bag under a row number
        self.open: list[Transaction] = []
        self.waiting: list[list[dict[str, Any]]] = []  # committed, not streamed yet
        self.stream: list[tuple[int, RawEvent]] = []  # 1: may come again
        self.lsn = 1000
        self.last_commit_lsn: int | None = None
        self.offsets = [0] * partitions
        self.next_row = 0
        self.next_value = 0

    # -- what may happen

    def step(self) -> None:
        """Let one thing happen that Postgres's locks allow."""
        self.random.choice(
            [self._begin, self._change, self._change, self._change, self._commit, self._roll_back]
        )()

    def finish(self) -> list[RawEvent]:
        """Commit what is open, stream what waits, and give all events."""
        while self.open:
            self._commit()
        self.send()
        return [event for _, event in self.stream]

    def content(self) -> Counter[tuple[Any, ...]]:
        """The committed rows, counted."""
        return Counter(tuple(row.values()) for row in self.rows.values())

    def snapshot(self, first: bool = False) -> None:
        """Read the committed rows; what is open or waits streams afterwards.

        Args:
            first: the stream begins here: what was committed before is not in it.
        """
        for transaction in [one for one in self.open if one.truncates]:
            self._commit(transaction)  # reading waits for it
        if first:
            self.waiting.clear()
        self.lsn += 8
        lsn, rows = self.lsn, list(self.rows.values())
        for number, row in enumerate(rows):
            mark = "first" if number == 0 else "true"
            mark = "last" if number == len(rows) - 1 else mark
            event = {"op": "r", "after": row, "lsn": lsn, "snapshot": mark}
            self._emit(event, sequence=[None, str(lsn)], total_order=None)

    def interrupted_snapshot(self) -> None:
        """Read some of the committed rows; then the reader dies, and nothing was streamed."""
        self.lsn += 8
        lsn, rows = self.lsn, list(self.rows.values())
        for number, row in enumerate(rows[: self.random.randint(0, len(rows))]):
            mark = "first" if number == 0 else "true"
            event = {"op": "r", "after": row, "lsn": lsn, "snapshot": mark}
            self._emit(event, sequence=[None, str(lsn)], total_order=None)

    def lose_rows(self) -> None:
        """Rows go without an event, as with a partition that is dropped."""
        locked = {key for transaction in self.open for key in transaction.locks}
        for key in sorted(self.rows.keys() - locked):
            if self.random.random() < 0.7:
                del self.rows[key]

    def gain_rows(self) -> None:
        """Rows come without an event, as with a partition that is attached."""
        locked = {key for transaction in self.open for key in transaction.locks}
        for key in {1, 2, 3, 4, 5} - locked - self.rows.keys():
            if self.random.random() < 0.4:
                number = key
                if self.contract.is_keyless:
                    self.next_row += 1
                    number = self.next_row
                big = None if self.contract.is_keyless else self._value()
                self.rows[number] = {"id": key, "note": self._value(), "big": big}

    def resync(self, steps: int) -> None:
        """Read all rows again, as `capture` does, while transactions come and go.

        Those that are open when it begins end before anything is read: see `app/capture/resyncing.py`.
        """
        if self.contract.is_keyless:  # writers are held off from before the position until the end
            while self.open:
                self._commit()
            below = self._next_lsn()
            self.send()
            self.snapshot()
        else:
            below = self._next_lsn()
            writers = list(self.open)
            while any(transaction in self.open for transaction in writers):
                self.step()
            self.send()
            for keys in ((1, 2), (3, 4), (5,)):
                self._chunk(keys, steps)
        self._end_resync(below)

    def _next_lsn(self) -> int:
        self.lsn += 8
        return self.lsn

    def _chunk(self, keys: tuple[int, ...], steps: int) -> None:
        """One window of an incremental snapshot: what is streamed in it takes rows out of it."""
        read_at = self.random.randint(0, steps)
        rows: dict[int, Row] = {}
        for number in range(steps + 1):
            if number == read_at:
                rows = {key: self.rows[key] for key in keys if key in self.rows}
            self.step()
        while any(transaction.truncates for transaction in self.open):
            self.step()
        for events in self.waiting:
            for event in events[:-1]:
                if event["op"] == "t":
                    rows.clear()
                else:
                    rows.pop((event.get("after") or event["before"])["id"], None)
        self.send()
        self.lsn += 8
        commit = None if self.last_commit_lsn is None else str(self.last_commit_lsn)
        for row in rows.values():
            event = {"op": "r", "after": row, "lsn": None, "snapshot": "incremental"}
            self._emit(event, sequence=[commit, str(self.lsn)], total_order=None)

    def _end_resync(self, below_lsn: int) -> None:
        end = ResyncEnd(Lsn(below_lsn), self.partitions)
        value = resync_end("public", "films", end, resync="1", at_ms=0, prefix="hw")
        for partition in range(self.partitions):
            self._append(0, RawEvent(TOPIC, partition, 0, 0, None, value, []))

    def send(self) -> None:
        """Stream the committed transactions that wait, in commit order."""
        for events in self.waiting:
            commit = None if self.last_commit_lsn is None else str(self.last_commit_lsn)
            for number, event in enumerate(events[:-1]):
                self._emit(event, sequence=[commit, str(event["lsn"])], total_order=number + 1)
            self.last_commit_lsn = events[-1]["lsn"]
        self.waiting = []

    def replay(self) -> None:
        """Send the last events again, as a connector without exactly-once does.

        Not those from before its first commit: their order is not known (see `decode`).
        """
        streamed = [event for kind, event in self.stream if kind == 1]
        count = self.random.randint(0, min(8, len(streamed)))
        for event in streamed[len(streamed) - count :]:
            self._append(1, event)

    # -- transactions

    def _begin(self) -> None:
        if len(self.open) < 3:
            self.open.append(Transaction())

    def _commit(self, which: Transaction | None = None) -> None:
        if not self.open:
            return
        done = which or self.random.choice(self.open)
        self.open.remove(done)
        self.lsn += 8
        if done.truncates:
            self.rows.clear()
        for key, row in done.changed.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        if done.events:
            self.waiting.append([*done.events, {"lsn": self.lsn}])

    def _roll_back(self) -> None:
        if self.open and self.random.random() < 0.2:
            self.open.pop(self.random.randrange(len(self.open)))

    def _change(self) -> None:
        if not self.open:
            self._begin()
        mine = self.random.choice(self.open)
        others = [other for other in self.open if other is not mine]
        if any(other.truncates for other in others):
            return
        if self.random.random() < 0.04 and not any(other.locks for other in others):
            self._truncate(mine)
            return
        locked = {key for other in others for key in other.locks}
        seen = {} if mine.truncates else dict(self.rows)
        seen.update({k: v for k, v in mine.changed.items() if v is not None})
        for key, row in mine.changed.items():
            if row is None:
                seen.pop(key, None)
        if self.contract.is_keyless:
            self._change_bag(mine, seen, locked)
        else:
            self._change_keyed(mine, seen, locked)

    def _truncate(self, mine: Transaction) -> None:
        mine.truncates = True
        mine.changed.clear()
        self.lsn += 8
        mine.events.append({"op": "t", "lsn": self.lsn})

    def _change_keyed(self, mine: Transaction, seen: dict[int, Row], locked: set[int]) -> None:
        key = self.random.randint(1, 5)
        if key in locked:
            return
        mine.locks.add(key)
        self.lsn += 8
        old = seen.get(key)
        if old is None:
            row = {"id": key, "note": self._value(), "big": self._value()}
            mine.changed[key] = row
            mine.events.append({"op": "c", "after": row, "lsn": self.lsn})
            return
        what = self.random.choice(["note", "note", "big", "key", "delete"])
        if what == "delete":
            mine.changed[key] = None
            mine.events.append({"op": "d", "before": old, "lsn": self.lsn})
        elif what == "key":
            self._change_key(mine, seen, locked, old)
        else:
            row = {**old, what: self._value()}
            mine.changed[key] = row
            sent = row if what == "big" else {**row, "big": self.unchanged or row["big"]}
            mine.events.append({"op": "u", "after": sent, "lsn": self.lsn})

    def _change_key(
        self, mine: Transaction, seen: dict[int, Row], locked: set[int], old: Row
    ) -> None:
        new = self.random.randint(1, 5)
        if new in locked or new in seen:
            return
        mine.locks.add(new)
        row = {**old, "id": new}
        mine.changed[old["id"]], mine.changed[new] = None, row
        mine.events.append({"op": "d", "before": old, "lsn": self.lsn, "newkey": new})
        after = {**row, "big": self.unchanged or row["big"]}
        mine.events.append({"op": "c", "after": after, "lsn": self.lsn, "oldkey": old["id"]})

    def _change_bag(self, mine: Transaction, seen: dict[int, Row], locked: set[int]) -> None:
        self.lsn += 8
        free = sorted(number for number in seen if number not in locked)
        what = self.random.choice(["insert", "insert", "update", "delete"])
        if what == "insert" or not free:
            self.next_row += 1
            number, old = self.next_row, None
        else:
            number = self.random.choice(free)
            old = seen[number]
        mine.locks.add(number)
        # Few different values, so that rows have copies.
        row = None if what == "delete" and old else {"id": 1, "note": self._few(), "big": None}
        mine.changed[number] = row
        op = "c" if old is None else "u" if row else "d"
        mine.events.append({"op": op, "before": old, "after": row, "lsn": self.lsn})

    def _value(self) -> str:
        self.next_value += 1
        return f"v{self.next_value}"

    def _few(self) -> str:
        return f"v{self.random.randint(1, 3)}"

    # -- events

    def _emit(
        self, event: dict[str, Any], sequence: list[str | None], total_order: int | None
    ) -> None:
        op = event["op"]
        before, after = event.get("before"), event.get("after")
        key = None
        if not self.contract.is_keyless and op != "t":
            key = (after or before or {})["id"]
        document = {
            "op": op,
            "before": before,
            "after": after,
            "source": {
                "lsn": event["lsn"],
                "sequence": json.dumps(sequence, separators=(",", ":")),
                "ts_us": (event["lsn"] or self.lsn) * 1000,
                "snapshot": event.get("snapshot", "false"),
            },
            "transaction": None if total_order is None else {"total_order": total_order},
        }
        headers = [
            (f"__debezium.{name}", _key(event[name]))
            for name in ("oldkey", "newkey")
            if name in event
        ]
        partition = (
            self.random.randrange(self.partitions) if key is None else key
        ) % self.partitions
        message_key = None if key is None else _key(key)
        raw = RawEvent(TOPIC, partition, 0, 0, message_key, json.dumps(document).encode(), headers)
        kind = 0 if sequence[0] is None else 1
        self._append(kind, raw)
        if op == "d" and key is not None:
            self._append(kind, raw._replace(value=None))

    def _append(self, kind: int, event: RawEvent) -> None:
        offset = self.offsets[event.partition]
        self.offsets[event.partition] += 1
        self.stream.append((kind, event._replace(offset=offset)))


def _key(key: int) -> bytes:
    """A message key as Connect's JSON converter writes it."""
    return json.dumps({"id": key}, separators=(",", ":")).encode()
