"""Small objects of bronze become large ones; every reader reads the same events before, meanwhile and afterwards."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pyarrow.fs as pa_fs
import pytest
import requests

from app.counts.transactions import from_offset
from app.verify.bronze_check import check_partition
from app.verify.bronze_records import Bronze
from spark_streaming.compaction.bronze_store import BronzeStore
from spark_streaming.compaction.compactor import IDLE, PACKED, WAITS, Compactor, Done
from spark_streaming.compaction.pack_state import load
from spark_streaming.compaction.packing import Body, DamagedError, Limits, gather, is_due
from spark_streaming.compaction.passes import Budget, Passes, run_pass
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.job_metrics import Metrics
from spark_streaming.reading.bronze_names import Span, packed_path, packed_span, small_path
from spark_streaming.storage.s3_request import Answer
from tests.support import bronze as sink
from tests.support.bronze_bucket import STORE, FakeStore, Folder, Object

TOPIC = "hw.public.t"
HOUR = 3_600.0
NOW = 1_000_000_000.0
LIMITS = Limits(lines_bytes=4_000, objects=50, old_objects=3)


def event(offset: int, topic: str = TOPIC) -> RawEvent:
    return RawEvent(topic, 0, offset, offset * 10, b"k%d" % offset, b"v" * (offset % 90), [])


class World:
    """A bronze on disk; the sink's objects of two hours ago."""

    def __init__(self, folder: Path) -> None:
        self.objects = Folder(folder)
        self.store = FakeStore(self.objects, NOW)
        self.files = pa_fs.SubTreeFileSystem(str(folder), pa_fs.LocalFileSystem())
        self.bronze = Bronze(self.files)
        self.planned: set[str] = set()
        self.done = Done()

    def put(self, offsets: range | list[int], records: int = 1, age_s: float = 2 * HOUR) -> None:
        known = set(self.objects)
        sink.write(self.files, [event(n) for n in offsets], records)
        for path in set(self.objects) - known:
            self.objects[path] = Object(self.objects[path].body, (), NOW - age_s)

    def compactor(self, limits: Limits = LIMITS) -> Compactor:
        return Compactor(
            BronzeStore(STORE, self.store.ask), lambda: self.planned, limits, self.done
        )

    def pack_all(self, limits: Limits = LIMITS) -> None:
        while self.compactor(limits).pack(TOPIC, 0, self.store.now) == PACKED:
            pass

    def read(self, start: int = 0, end: int | None = None) -> list[int]:
        def explain(_: int, first: int, last: int) -> None:
            raise AssertionError(f"a gap from {first} to {last}")

        return [one.offset for one in self.bronze.events(TOPIC, 0, start, explain, end)]

    def small(self) -> list[str]:
        return [path for path in self.objects if path.endswith(".gz") and not packed_span(path)]

    def packed(self) -> list[Span]:
        return [span for path in self.objects if (span := packed_span(path)) is not None]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_packed_object_is_named_by_its_first_and_last_offset_and_sorts_before_the_sinks() -> None:
    path = packed_path(TOPIC, 3, Span(20_000_001, 20_700_000))
    assert path == (
        "hw.public.t/partition=3/archive/span=0000000000000002/"
        "00000000000020000001-00000000000020700000.jsonl.gz"
    )
    assert packed_span(path) == Span(20_000_001, 20_700_000)
    assert packed_span(small_path(TOPIC, 3, 20_000_001)) is None
    assert path < small_path(TOPIC, 3, 0)


def test_events_are_read_once_before_packing_after_it_and_when_the_small_objects_are_gone(
    world: World,
) -> None:
    world.put(range(200))
    world.pack_all()
    assert world.packed()[0].first == 0 and len(world.small()) == 200
    assert world.read() == list(range(200))
    world.store.now += 25 * HOUR
    world.compactor().drop_packed(TOPIC, 0, world.store.now)
    assert len(world.small()) == 199 - world.packed()[-1].last
    assert world.done.troubles == [] and world.done.deleted == world.packed()[-1].last + 1
    for start in (0, 1, 57, 150, 199, 200):
        assert world.read(start) == list(range(start, 200))
    assert world.read(40, 120) == list(range(40, 120))


def test_what_is_young_or_the_newest_or_too_little_stays_as_it_is(world: World) -> None:
    world.put(range(2), age_s=30 * 24 * HOUR)
    assert world.compactor().pack(TOPIC, 0, NOW) == IDLE  # two of which one is the newest
    world.put(range(2, 60), age_s=HOUR / 2)
    assert world.compactor().pack(TOPIC, 0, NOW) == IDLE
    assert world.packed() == []


def test_few_objects_are_packed_when_they_are_old(world: World) -> None:
    world.put(range(6), age_s=8 * 24 * HOUR)
    assert world.compactor().pack(TOPIC, 0, NOW) == PACKED
    assert world.packed() == [Span(0, 4)]


def test_small_objects_stay_for_a_day_after_they_were_packed(world: World) -> None:
    world.put(range(100))
    world.pack_all()
    world.compactor().drop_packed(TOPIC, 0, NOW + 23 * HOUR)
    assert len(world.small()) == 100


def test_a_small_object_that_differs_from_the_packed_one_is_kept_and_named(world: World) -> None:
    world.put(range(100))
    world.pack_all()
    path = small_path(TOPIC, 0, 3)
    changed = gzip.compress(gzip.decompress(world.objects[path].body).replace(b"vvv", b"vvw"))
    world.objects[path] = Object(changed, (), NOW)
    world.compactor().drop_packed(TOPIC, 0, NOW + 25 * HOUR)
    assert path in world.objects and world.done.deleted == world.packed()[-1].last
    assert [path in trouble for trouble in world.done.troubles] == [True]
    assert world.read() == list(range(100))


def test_an_unfinished_erasure_of_the_topic_is_waited_for(world: World) -> None:
    world.put(range(100))
    world.planned = {TOPIC}
    assert world.compactor().pack(TOPIC, 0, NOW) == WAITS
    assert world.packed() == [] and world.done.waiting == {TOPIC}
    world.planned = set()
    world.pack_all()
    assert (
        world.read() == list(range(100))
        and load(world.compactor()._store, TOPIC, 0).packing is None
    )


def test_a_proof_that_does_not_follow_begins_another_packed_object() -> None:
    def body(first: int, comment: str | None) -> Body:
        plain = gzip.compress(b'{"offset":%d,"headers":[]}\n' % first)
        if comment is not None:
            head = plain[:3] + bytes([plain[3] | 16]) + plain[4:10]
            plain = head + f"headwater {comment}".encode() + b"\0" + plain[10:]
        return Body(small_path(TOPIC, 0, first), plain)

    def joined(*bodies: Body) -> tuple[int, bool]:
        run = gather(bodies, Limits())
        return len(run.members), run.is_closed

    whole = [body(0, "read-from=0"), body(4, "read-from=1"), body(6, "read-from=5")]
    assert joined(*whole) == (3, False)
    assert joined(*whole[:2], body(9, "read-from=8")) == (2, True)
    assert joined(*whole[:2], body(9, "read-from=5 lost=5-7")) == (2, True)
    assert joined(body(0, "read-from=0 lost=0-2"), body(4, "read-from=1")) == (2, False)
    assert joined(whole[0], body(4, None)) == (1, True)
    assert joined(body(0, None), body(2, None)) == (2, False)
    with pytest.raises(DamagedError, match="in the object before, too"):
        gather([body(4, "read-from=0"), body(4, "read-from=0")], Limits())


def test_a_run_is_due_when_it_is_full_or_old() -> None:
    assert not is_due(gather([], Limits()), Limits(), NOW)


def test_a_listing_that_goes_on_after_an_object_that_was_packed_misses_nothing(
    world: World, seed: int
) -> None:
    rng = random.Random(seed)
    for number in range(20):
        inner = World(Path(f"{world.objects._folder}/{number}"))
        inner.put(range(120), records=rng.choice((1, 3)))
        last, after, objects = -1, "", 0
        while last < 119:
            for path in inner.bronze.objects(TOPIC, 0, after=after):
                body = from_offset(inner.bronze.content(path), last + 1)
                offsets = [int(line.split(b",")[2].split(b":")[1]) for line in body.splitlines()]
                assert offsets[:1] in ([last + 1], []), "nothing is left out"
                last, after, objects = max([last, *offsets]), path, objects + 1
                if rng.random() < 0.05:
                    inner.compactor().pack(TOPIC, 0, NOW)
                if rng.random() < 0.1:
                    # Far earlier than in life, so what was listed before is listed again.
                    inner.compactor(Limits(kept_s=-1)).drop_packed(TOPIC, 0, NOW)
                    break
        assert last == 119


def test_searches_from_the_newest_on_and_by_halves_see_packed_objects(world: World) -> None:
    world.put(range(9_900, 10_200), records=3)
    world.pack_all()
    for _ in range(2):
        paths = list(world.bronze.objects_newest_first(TOPIC, 0))
        assert paths == list(reversed(list(world.bronze.objects(TOPIC, 0))))
        sections = world.bronze.sections(TOPIC, 0)
        assert [packed_span(one) for one in sections[:-1]] == world.packed()
        assert world.bronze.first_timestamp(sections[0]) == 99_000
        assert world.bronze.last_offset(TOPIC, 0) == 10_197
        world.compactor(Limits(kept_s=-1)).drop_packed(TOPIC, 0, NOW)


def test_verify_takes_packed_objects_for_the_whole_they_are(world: World) -> None:
    world.put([n for n in range(300) if n % 50 != 7], records=4)
    world.pack_all()
    world.compactor(Limits(kept_s=-1)).drop_packed(TOPIC, 0, NOW)
    lines = [line for path in world.bronze.objects(TOPIC, 0) for line in world.bronze.lines(path)]
    report = check_partition(lines, iter(()), 300)
    assert report.complete and report.records == 294 and report.last == 299


def test_a_pass_ends_at_its_limits_and_the_next_one_goes_on_behind(world: World) -> None:
    for topic in ("hw.a", "hw.b"):
        for n in range(120):
            body = gzip.compress(b'{"offset":%d,"headers":[],"x":"%s"}\n' % (n, b"x" * 90))
            world.objects[small_path(topic, 0, n)] = Object(body, (), NOW - 2 * HOUR)
    passes = Passes(BronzeStore(STORE, world.store.ask), "hw", set, limits=LIMITS)
    first = passes.run(Budget(stored_bytes=1))
    second = passes.run(Budget(stored_bytes=1))
    assert (first.packed, second.packed) == (1, 1)
    rest = passes.run(Budget())
    assert rest.packed >= 2 and {span.first for span in world.packed()} > {0}
    assert passes.run(Budget()).packed == 0


def test_a_pass_of_the_service_is_counted_and_a_store_that_is_away_fails_only_the_pass(
    world: World,
) -> None:
    metrics = Metrics()
    world.put(range(100))
    passes = Passes(BronzeStore(STORE, world.store.ask), "hw", set, limits=LIMITS)
    run_pass(passes, metrics.maintenance)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"headwater_silver_maintenance_{name}", labels)

    assert value("joined_files_total") == world.packed()[-1].last + 1
    assert value("failing", table="bronze") == 0

    def away(*_: object, **__: object) -> Answer:
        raise requests.ConnectionError("no")

    run_pass(Passes(BronzeStore(STORE, away), "hw", set), metrics.maintenance)
    assert value("failing", table="bronze") == 1


def test_one_damaged_object_stops_its_partition_only(world: World) -> None:
    world.put(range(100))
    path = small_path(TOPIC, 0, 5)
    world.objects[path] = Object(b"no gzip", (), NOW - 2 * HOUR)
    for n in range(120):
        body = gzip.compress(b'{"offset":%d,"headers":[],"x":"%s"}\n' % (n, b"x" * 90))
        world.objects[small_path("hw.public.z", 0, n)] = Object(body, (), NOW - 2 * HOUR)
    done = Passes(BronzeStore(STORE, world.store.ask), "hw", set, limits=LIMITS).run(Budget())
    assert done.packed and [path in trouble for trouble in done.troubles] == [True]


def test_events_go_by_age_from_the_beginning_on_and_the_state_says_so(world: World) -> None:
    world.put(range(200))
    world.pack_all()
    first, second, *_ = world.packed()
    old = packed_path(TOPIC, 0, first)
    for path in [path for path in world.objects if packed_span(path)]:
        age_s = 40 * 24 * HOUR if path == old else HOUR
        world.objects[path] = Object(world.objects[path].body, (), NOW - age_s)
    world.compactor().expire(TOPIC, 0, NOW - 30 * 24 * HOUR)
    assert old not in world.objects and world.bronze.kept_from(TOPIC, 0) == second.first
    assert world.read(second.first) == list(range(second.first, 200))
    assert min(packed_span(p) or Span(10**9, 0) for p in world.objects) == second
    assert all(int(path[-29:-9]) >= second.first for path in world.small())
