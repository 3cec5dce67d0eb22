"""Packs the objects of one partition. README.md has the protocol and its reasons.

1. Read the partition's state, and the sink's objects behind the last packed one, without the newest.
2. Note in the state what is being packed, on the condition that it is as it was read.
3. Stop if an erasure of the topic is unfinished: it will finish this.
4. Read the objects again that have changed; put the packed one, if its name is free.
5. Read it back: it must hold every line. Note it in the state.
6. Later: compare each small object with its packed one, and delete it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from spark_streaming.compaction.bronze_store import BronzeStore, Listed, Stored
from spark_streaming.compaction.pack_state import Packing, PackState, load, replace_state
from spark_streaming.compaction.packing import (
    Body,
    DamagedError,
    Limits,
    gather,
    is_due,
    is_within,
    metadata_of,
    offsets_of,
    packed_from,
)
from spark_streaming.reading.bronze_names import (
    ARCHIVE,
    BLOCK,
    BLOCK_OFFSETS,
    OBJECT,
    Span,
    block_number,
    first_offset,
    packed_path,
    packed_span,
    partition_folder,
    spans_beyond,
)

PACKED, IDLE, WAITS = "packed", "idle", "waits for an erasure"
STATE_TRIES_MAX = 20


@dataclass
class Done:
    """What was done: packed objects put, small ones that they hold, small ones deleted, packed ones deleted by age.

    `bytes_before` and `bytes_after` are those of what was packed; `troubles` say what could not be done, and why.
    """

    packed: int = 0
    joined: int = 0
    deleted: int = 0
    expired: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    waiting: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)


class Compactor:
    """Packs the objects of a bronze bucket, and deletes those that were packed.

    Args:
        planned: returns the topics with an unfinished erasure.
        done: counts what is done.
    """

    def __init__(
        self,
        store: BronzeStore,
        planned: Callable[[], Collection[str]],
        limits: Limits,
        done: Done,
    ) -> None:
        self._store = store
        self._planned = planned
        self._limits = limits
        self._done = done

    def pack(self, topic: str, partition: int, now: float) -> str:
        """Put one packed object, or finish one that was begun. Returns: PACKED, IDLE or WAITS.

        Raises: DamagedError, OSError, ValueError.
        """
        state = load(self._store, topic, partition)
        read: dict[str, tuple[str, Body]] = {}
        if state.packing is None:
            found = self._candidates(topic, partition, state.packed_to, now)
            run = gather(self._bodies(found, read), self._limits)
            if not is_due(run, self._limits, now):
                return IDLE
            packing = Packing(run.span, tuple(body.path for body in run.members))
            if not replace_state(
                self._store, topic, partition, state, replace(state, packing=packing)
            ):
                return IDLE  # another one packs this partition
            state = load(self._store, topic, partition)
            if state.packing != packing:
                return IDLE
        if topic in self._planned():
            self._done.waiting.add(topic)
            return WAITS
        self._finish(topic, partition, state, read)
        return PACKED

    def settle(self, topic: str, partition: int) -> None:
        """Finish what is being packed, for an erasure: afterwards no other put of these events can succeed.

        The erasure's plan is written, so nothing else begins. Raises: DamagedError, OSError, ValueError.
        """
        for _ in range(STATE_TRIES_MAX):
            state = load(self._store, topic, partition)
            if state.packing is None:
                return
            self._finish(topic, partition, state, {})
        raise DamagedError(f"{topic} partition {partition}: its state changes again and again")

    def drop_packed(
        self,
        topic: str,
        partition: int,
        now: float,
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Delete the small objects of packed ones that are old enough, each after a comparison.

        Args:
            may_go_on: asked before each object.
        Raises: DamagedError, OSError, ValueError.
        """
        state = load(self._store, topic, partition)
        for block in self._blocks(topic, partition):
            if block_number(block) * BLOCK_OFFSETS > state.packed_to:
                return
            covered = [
                one for one in self._small(block) if first_offset(one.path) <= state.packed_to
            ]
            if covered and not self._drop(topic, partition, covered, state, now, may_go_on):
                return

    def expire(self, topic: str, partition: int, before: float) -> None:
        """Delete the packed objects at a partition's beginning that were put before this time.

        The state says so first, so that readers know what is missing and why. Raises: OSError, ValueError.
        """
        state = load(self._store, topic, partition)
        if state.packing is not None:
            return
        paths = []
        kept_from = state.kept_from
        for one in self._packed(topic, partition, -1):
            span = packed_span(one.path)
            if span is None or one.put_at >= before:
                break
            paths.append(one.path)
            kept_from = max(kept_from, span.last + 1)
        new = replace(state, kept_from=kept_from)
        if new != state and not replace_state(self._store, topic, partition, state, new):
            return
        self.drop_before(topic, partition, kept_from)
        for path in paths:
            self._store.delete(path)
            self._done.expired += 1

    def drop_before(self, topic: str, partition: int, offset: int) -> None:
        """Delete the small objects that begin before an offset that is no longer kept."""
        for block in self._blocks(topic, partition):
            if block_number(block) * BLOCK_OFFSETS >= offset:
                return
            for one in self._small(block):
                if first_offset(one.path) < offset:
                    self._store.delete(one.path)
                    self._done.deleted += 1

    def kept_from(self, topic: str, partition: int) -> int:
        """Return the offset before which everything was deleted by age; 0 if nothing was."""
        return load(self._store, topic, partition).kept_from

    def holders(self, topic: str, partition: int, offsets: Collection[int]) -> list[str]:
        """Return all objects that may hold one of these offsets: the sink's and packed ones."""
        packed = [one.path for one in self._packed(topic, partition, min(offsets) - 1)]
        spans = {path: span for path in packed if (span := packed_span(path)) is not None}
        found = {
            path
            for path, span in spans.items()
            if any(span.first <= offset <= span.last for offset in offsets)
        }
        blocks = self._blocks(topic, partition)
        listed: dict[str, list[str]] = {}
        for offset in offsets:
            # An object that holds it may have begun in a block before.
            for block in reversed(
                [b for b in blocks if block_number(b) <= offset // BLOCK_OFFSETS]
            ):
                if block not in listed:
                    listed[block] = [one.path for one in self._small(block)]
                before = [path for path in listed[block] if first_offset(path) <= offset]
                if before:
                    found.add(max(before, key=first_offset))
                    break
        return sorted(found)

    def _finish(
        self, topic: str, partition: int, state: PackState, read: dict[str, tuple[str, Body]]
    ) -> None:
        packing = state.packing
        assert packing is not None
        path = packed_path(topic, partition, packing.span)
        if self._store.get(path) is None:
            self._put(path, packing, read)
        replace_state(
            self._store,
            topic,
            partition,
            state,
            replace(state, packed_to=packing.span.last, packing=None),
        )

    def _put(self, path: str, packing: Packing, read: dict[str, tuple[str, Body]]) -> None:
        members = self._members(packing, read)
        if members is None:
            # Another one was faster, and has deleted the small objects already.
            if self._store.get(path) is None:
                raise DamagedError(
                    f"{path} is not there, nor is one of the objects that it is made of"
                )
            return
        body = packed_from(members)
        records = sum(len(offsets_of(one)) for one in members)
        if self._store.put_new(path, body, metadata_of(members[0], packing.span, records)):
            self._done.packed += 1
            self._done.joined += len(members)
            self._done.bytes_before += sum(len(one.packed) for one in members)
            self._done.bytes_after += len(body)
        self._check(path, packing, self._store.get(path), members)

    def _check(
        self, path: str, packing: Packing, stored: Stored | None, members: list[Body]
    ) -> None:
        """Compare what was put with what it was made of. Raises: DamagedError."""
        if stored is None:
            raise DamagedError(f"{path} is gone")
        kept = dict(offsets_of(Body(path, stored.body)))
        offsets = list(kept)
        whole = sum(len(offsets_of(one)) for one in members) == len(offsets)
        if not whole or (offsets[0], offsets[-1]) != packing.span:
            raise DamagedError(
                f"{path}: it holds other offsets than the objects that it was made of"
            )
        for one in members:
            if not is_within(one, kept):
                raise DamagedError(f"{path}: it lacks an event of {one.path}")

    def _members(self, packing: Packing, read: dict[str, tuple[str, Body]]) -> list[Body] | None:
        """Return the objects that are packed as they are now, None if one is gone; read again what has changed."""
        etags: dict[str, str] = {}
        for block in dict.fromkeys(path.rsplit("/", 1)[0] for path in packing.members):
            etags |= {one.path: one.etag for one in self._store.objects(block)}
        members = []
        for path in packing.members:
            etag, body = read.get(path, ("", None))
            if body is None or etag != etags.get(path):
                stored = self._store.get(path)
                if stored is None:
                    return None
                body = Body(path, stored.body, stored.metadata, stored.put_at)
            members.append(body)
        return members

    def _candidates(
        self, topic: str, partition: int, packed_to: int, now: float
    ) -> Iterator[Listed]:
        """Yield the sink's objects that are not packed, but the newest and young ones, in order."""
        waiting: Listed | None = None
        for block in self._blocks(topic, partition):
            if (block_number(block) + 1) * BLOCK_OFFSETS <= packed_to:
                continue
            for one in self._small(block):
                if first_offset(one.path) <= packed_to:
                    continue
                # The sink finds a partition's end by its last object, so that one stays.
                if waiting is not None:
                    yield waiting
                if now - one.put_at < self._limits.young_s:
                    return
                waiting = one

    def _bodies(self, found: Iterable[Listed], read: dict[str, tuple[str, Body]]) -> Iterator[Body]:
        for one in found:
            stored = self._store.get(one.path)
            if stored is None:
                return  # packed and deleted since it was listed: the state has changed, too
            body = Body(one.path, stored.body, stored.metadata, one.put_at)
            read[one.path] = (stored.etag, body)
            yield body

    def _drop(
        self,
        topic: str,
        partition: int,
        covered: list[Listed],
        state: PackState,
        now: float,
        may_go_on: Callable[[], bool],
    ) -> bool:
        """Delete objects of one block. Returns: whether the next block may be looked at."""
        kept: dict[int, bytes] = {}
        span: Span | None = None
        for one in covered:
            if not may_go_on():
                return False
            first = first_offset(one.path)
            if span is None or not span.first <= first <= span.last:
                if first < state.kept_from:
                    self._store.delete(one.path)
                    continue
                packed = self._holder(topic, partition, first)
                if now - packed.put_at < self._limits.kept_s:
                    return False
                span, kept = packed_span(packed.path), dict(offsets_of(packed))
            stored = self._store.get(one.path)
            if stored is None:
                continue
            if not is_within(Body(one.path, stored.body), kept):
                self._done.troubles.append(
                    f"{one.path} stays: the packed object does not hold all of its events"
                )
                continue
            self._store.delete(one.path)
            self._done.deleted += 1
        return True

    def _holder(self, topic: str, partition: int, offset: int) -> Body:
        for one in self._packed(topic, partition, offset - 1):
            span = packed_span(one.path)
            if span is not None and span.first <= offset <= span.last:
                stored = self._store.get(one.path)
                if stored is not None:
                    return Body(one.path, stored.body, stored.metadata, one.put_at)
        raise DamagedError(
            f"{topic} partition {partition}: no packed object holds offset {offset}, though it was packed"
        )

    def _packed(self, topic: str, partition: int, beyond: int) -> Iterator[Listed]:
        """Yield the packed objects that end beyond an offset, in order."""
        folder = f"{partition_folder(topic, partition)}/{ARCHIVE}"
        for span_folder in spans_beyond(self._store.folders(folder), beyond):
            for one in self._store.objects(span_folder):
                span = packed_span(one.path)
                if span is not None and span.last > beyond:
                    yield one

    def _blocks(self, topic: str, partition: int) -> list[str]:
        found = self._store.folders(partition_folder(topic, partition))
        return [path for path in found if f"/{BLOCK}" in path]

    def _small(self, block: str) -> list[Listed]:
        return [one for one in self._store.objects(block) if one.path.endswith(OBJECT)]
