"""A resync as a model: what `capture`, writers, Debezium and silver do, in every order.

Row 1 was once inserted, and its delete never became an event: silver must lose it. Row 2 was changed
without an event: silver must get its value. One transaction changes row 2 at any time; another may
truncate the table. `capture` may be killed. Events are decoded, folded and merged
by the job's own functions. RULES are left out one by one, and a search without one must fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.support.explorer import Properties
from tests.unit.app.capture.resync_world import (
    HIGH,
    LOW,
    PARTITIONS,
    SIGNAL,
    Connector,
    Event,
    Kept,
    Source,
    after_batch,
    written,
)

RULES = frozenset(
    {
        "it waits for those who wrote before",
        "it looks for writers after it noted L0",
        "it ends after the rows",
        "the end is awaited in every partition",
        "the signal travels in the log",
        "what is streamed in the window leaves the chunk",
        "a truncated table is read again",
    }
)
START = 100


class Capture(NamedTuple):
    """`capture`: idle, noted (L0), looked, signalled, ending (`ends` partitions written), done.

    The signal table keeps `phase` from `signalled` on; before, a new process begins again.
    """

    phase: str = "idle"
    below: int = 0
    waits: bool = False
    shape: int = 0
    scan: int = 0  # the number of the snapshot that it asked for
    ends: int = 0


class State(NamedTuple):
    source: Source
    connector: Connector
    topic: tuple[tuple[Event, ...], ...]
    silver: Kept
    capture: Capture = Capture()
    kills: int = 0


class Resyncs:
    """The model. Args: which transactions there are; how often `capture` is killed."""

    def __init__(
        self,
        rules: frozenset[str] = RULES,
        *,
        writes: bool = True,
        truncates: bool = False,
        kills: int = 1,
    ) -> None:
        self.rules = rules
        self.writes = writes
        self.truncates = truncates
        self.kills = kills
        self.always: Properties[State] = (
            {}
            if truncates
            else {
                "a row that the source has all the time is in silver all the time": lambda s: (
                    2 in dict(s.silver.values)
                )
            }
        )
        self.at_rest: Properties[State] = {
            "silver has the source's rows": lambda s: s.silver.values == s.source.rows
        }

    def first(self) -> Iterator[State]:
        inserted = Event("c", 1, "gone", 50, 40)
        yield State(
            Source(((2, "silent"),), START),
            Connector(commit=START),
            written(((),) * PARTITIONS, inserted),
            Kept(((2, "old", 60),)),
        )

    def is_done(self, state: State) -> bool:
        source, offsets = state.source, tuple(map(len, state.topic))
        return (
            state.capture.phase == "done"
            and not self._may_write(source)
            and source.writer <= 0
            and source.other_is_done == self.truncates
            and not source.log
            and state.silver.offsets == offsets
        )

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        yield from self._source(state, state.source)
        yield from self._stream(state, state.connector)
        yield from self._capture(state, state.capture)
        yield from self._silver(state, state.silver)

    def _may_write(self, source: Source) -> bool:
        return self.writes and source.writer == 0 and 2 in dict(source.rows)

    # -- the source

    def _source(self, state: State, source: Source) -> Iterator[tuple[str, State]]:
        if self._may_write(source):
            begun = source._replace(lsn=source.lsn + 10, writer=source.lsn + 10)
            yield f"a transaction writes row 2 at {begun.lsn}", state._replace(source=begun)
        elif source.writer > 0:
            event = Event("u", 2, "new", source.writer)
            done = source.row(2, "new").wrote(event)._replace(writer=-1)
            yield "the transaction commits", state._replace(source=done)
        if self.truncates and not source.other_is_done and source.writer <= 0:  # waits for writers
            lsn = source.lsn + 10
            source = source._replace(lsn=lsn, rows=(), shape=1).wrote(Event("t", 0, "", lsn))
            yield (
                "another transaction truncates the table",
                state._replace(source=source._replace(other_is_done=True)),
            )

    # -- Debezium

    def _stream(self, state: State, connector: Connector) -> Iterator[tuple[str, State]]:
        if connector.window == "asked":
            source = state.source.wrote(LOW)
            opened = state._replace(source=source, connector=connector._replace(window="opened"))
            yield "Debezium opens its window", opened
        elif connector.window == "opened":
            chunk = connector._replace(window="read", chunk=state.source.rows)
            yield "Debezium reads the chunk", state._replace(connector=chunk)
        elif connector.window == "read":
            source, closing = state.source.wrote(HIGH), connector._replace(window="closing")
            sent = state._replace(source=source, connector=closing)
            yield "Debezium writes the high watermark", sent
        if not state.source.log:
            return
        (commit, entry), rest = state.source.log[0], state.source.log[1:]
        state = state._replace(source=state.source._replace(log=rest))
        if isinstance(entry, Event):
            yield self._streamed(state, connector, entry, commit)
        elif entry == SIGNAL:
            asked = connector._replace(commit=commit, window="asked")
            yield "Debezium sees the signal", state._replace(connector=asked)
        elif entry == LOW:
            passed = connector._replace(commit=commit)
            yield "Debezium passes the low watermark", state._replace(connector=passed)
        else:
            yield self._closed(state, connector, commit)

    def _streamed(
        self, state: State, connector: Connector, entry: Event, commit: int
    ) -> tuple[str, State]:
        topic = written(state.topic, entry._replace(commit=connector.commit))
        chunk = connector.chunk
        if "what is streamed in the window leaves the chunk" in self.rules:
            chunk = tuple(row for row in chunk if row[0] != entry.key)
        after = connector._replace(commit=commit, chunk=chunk)
        return (
            f"Debezium streams {entry.op} of {entry.lsn}",
            state._replace(connector=after, topic=topic),
        )

    def _closed(self, state: State, connector: Connector, commit: int) -> tuple[str, State]:
        topic = state.topic
        at = commit if "the signal travels in the log" in self.rules else START
        for key, value in connector.chunk:
            topic = written(topic, Event("r", key, value, at, connector.commit))
        closed = Connector(commit, scans=connector.scans + 1)
        return (
            f"Debezium sends the chunk {connector.chunk} and tells the end",
            state._replace(connector=closed, topic=topic),
        )

    # -- capture

    def _capture(self, state: State, capture: Capture) -> Iterator[tuple[str, State]]:
        if state.kills < self.kills and capture.phase not in ("idle", "done"):
            kept = capture._replace(phase="signalled", ends=0)
            if capture.phase in ("noted", "looked"):
                kept = Capture()
            yield "capture is killed", state._replace(capture=kept, kills=state.kills + 1)
        step = {
            "idle": self._note,
            "noted": self._look,
            "looked": self._signal,
            "signalled": self._end,
            "ending": self._end,
            "done": self._nothing,
        }
        yield from step[capture.phase](state, capture)

    def _nothing(self, state: State, capture: Capture) -> Iterator[tuple[str, State]]:
        yield from ()

    def _note(self, state: State, capture: Capture) -> Iterator[tuple[str, State]]:
        below, shape = state.source.lsn + 1, state.source.shape
        waits = state.source.writer > 0
        noted = capture._replace(phase="noted", below=below, shape=shape, waits=waits)
        yield f"capture notes L0 {below}", state._replace(capture=noted)

    def _look(self, state: State, capture: Capture) -> Iterator[tuple[str, State]]:
        waits = state.source.writer > 0
        looked = capture._replace(phase="looked", waits=waits)
        if "it looks for writers after it noted L0" not in self.rules:
            looked = capture._replace(phase="looked", below=state.source.lsn + 1)
        yield "capture looks who writes", state._replace(capture=looked)

    def _signal(self, state: State, capture: Capture) -> Iterator[tuple[str, State]]:
        waits = capture.waits and state.source.writer > 0
        if waits and "it waits for those who wrote before" in self.rules:
            return
        # One transaction with what the signal table keeps.
        asked = capture._replace(
            phase="signalled", waits=False, scan=state.connector.scans + 1, ends=0
        )
        source = state.source.wrote(SIGNAL)
        yield "capture signals a snapshot", state._replace(capture=asked, source=source)

    def _end(self, state: State, capture: Capture) -> Iterator[tuple[str, State]]:
        told = state.connector.scans >= capture.scan
        if not told and "it ends after the rows" in self.rules:
            return
        if capture.ends < PARTITIONS:
            end = Event("end", capture.ends, "", capture.below)
            one = capture._replace(phase="ending", ends=capture.ends + 1)
            yield (
                f"capture writes the end into partition {capture.ends}",
                state._replace(capture=one, topic=written(state.topic, end)),
            )
        elif (
            state.source.shape != capture.shape and "a truncated table is read again" in self.rules
        ):
            yield "capture begins again", state._replace(capture=Capture())
        else:
            done = Capture("done")
            yield "capture records the end", state._replace(capture=done)

    # -- silver

    def _silver(self, state: State, silver: Kept) -> Iterator[tuple[str, State]]:
        ends = tuple(map(len, state.topic))
        partitions = PARTITIONS if "the end is awaited in every partition" in self.rules else 1
        batches = {ends}
        for number, offset in enumerate(silver.offsets):
            if offset < ends[number]:
                one = (*silver.offsets[:number], offset + 1, *silver.offsets[number + 1 :])
                batches.add(one)
        for end in sorted(batches - {silver.offsets}):
            after = after_batch(silver, state.topic, end, partitions)
            yield f"silver merges up to {end}", state._replace(silver=after)
