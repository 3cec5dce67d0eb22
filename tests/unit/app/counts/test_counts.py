"""Counts of transactions find each loss and each double and nothing else, even if the reading is interrupted."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.counts import count_reader as reader
from app.counts.count_reader import Barrier, Counting, FolderBronze, Progress
from app.counts.tally import RECENT_MAX, Miscount, Tally
from app.counts.transactions import End, EventRun, commit_before, ends, events
from spark_streaming.compaction.bronze_store import BronzeStore
from spark_streaming.compaction.packing import Limits
from spark_streaming.compaction.passes import Budget, Passes
from spark_streaming.contract.lsn import Lsn
from spark_streaming.reading.bronze import UnreadableObjectError
from tests.support.bronze_bucket import STORE, FakeStore, Folder
from tests.support.counted import COUNTED, TRANSACTIONS, A, B, Chain
from tests.support.examples import examples


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def short(wrong: list[Miscount]) -> list[tuple[str, int, str, int | None, int]]:
    return [(w.kind, w.xid, w.topic, w.expected, w.found) for w in wrong]


def test_whole_transactions_over_several_tables_and_objects_are_right(chain: Chain) -> None:
    for xid in range(50):
        chain.transaction(700 + xid, a=1 + xid % 5, b=xid % 3)
    chain.store()
    progress = Progress()
    assert chain.count(progress) == []
    assert progress.tally.checked == 50
    assert progress.tally.ended == chain.commit


def test_a_lost_event_is_named_with_its_transaction_and_table(chain: Chain) -> None:
    chain.transaction(700, a=4, b=2)
    chain.transaction(701, a=1)
    chain.store(but=lambda r: r.topic == A and r.offset == 2)
    assert chain.count() == [Miscount("short", 700, Lsn(110), A, 4, 3)]


def test_all_events_of_a_table_lost_is_found_though_its_topic_has_no_object(chain: Chain) -> None:
    chain.transaction(700, a=1, b=3)
    chain.store(but=lambda r: r.topic == B)
    assert short(chain.count()) == [("short", 700, B, 3, 0)]


def test_a_doubled_event_is_found(chain: Chain) -> None:
    chain.begin(700)
    for number in (1, 2, 2, 3):
        chain.event(A, 700, number)
    chain.end(700, {A: 3}, headers=COUNTED)
    chain.store()
    assert short(chain.count()) == [("surplus", 700, A, 3, 4)]


def test_one_lost_and_one_doubled_do_not_make_up_for_each_other(chain: Chain) -> None:
    chain.begin(700)
    for number in (1, 2, 2):
        chain.event(A, 700, number)
    chain.end(700, {A: 3})
    chain.store()
    [wrong] = chain.count()
    assert (wrong.kind, wrong.expected, wrong.found) == ("short", 3, 3)
    assert wrong.note == "some are missing and others are there twice"


def test_events_of_a_table_that_the_end_does_not_name_are_too_many(chain: Chain) -> None:
    chain.begin(700)
    chain.event(A, 700, 1)
    chain.event(B, 700, 1)
    chain.end(700, {A: 1}, headers=COUNTED)
    chain.store()
    assert short(chain.count()) == [("surplus", 700, B, 0, 1)]


def test_snapshot_rows_tombstones_and_messages_are_not_counted(chain: Chain) -> None:
    row = {"before": None, "after": {"id": 1}, "source": {"snapshot": "incremental"}}
    chain.add(A, {**row, "transaction": None, "op": "r"})
    chain.transaction(700, a=2)
    chain.add(A, None)
    chain.add(A, {**row, "transaction": None, "op": "r"})
    chain.store(records_max=1)
    assert chain.count() == []


def test_a_transaction_of_several_partitions_is_one(chain: Chain) -> None:
    chain.begin(700)
    for number in range(1, 9):
        chain.event(A, 700, number, partition=number % 3)
    chain.end(700, {A: 8})
    chain.store(but=lambda r: r.partition == 2 and r.offset == 2)
    assert short(chain.count()) == [("short", 700, A, 8, 7)]


def test_a_transaction_without_an_end_is_named_when_later_ones_have_ended(chain: Chain) -> None:
    chain.transaction(700, a=1)
    chain.begin(701)
    chain.event(A, 701, 1)
    chain.store()
    progress = Progress()
    found: list[Miscount] = []
    for xid in range(702, 706):
        found += chain.count(progress)
        assert not found or xid >= 704, "its END may still be on its way"
        chain.transaction(xid, b=1)
        chain.store()
    found += chain.count(progress)
    [wrong] = found
    assert (wrong.kind, wrong.xid, wrong.topic, wrong.expected) == ("short", 701, A, None)


def test_a_long_transaction_that_is_under_way_over_many_passes_is_right(chain: Chain) -> None:
    chain.transaction(700, a=1)
    chain.begin(701)
    progress = Progress()
    for number in range(1, 40):
        chain.event(A, 701, number)
        chain.store()
        assert chain.count(progress) == []
    chain.end(701, {A: 39})
    chain.store()
    assert chain.count(progress) == []
    assert progress.tally.checked == 2


@pytest.mark.parametrize("lsn", [110, 119])
def test_an_end_that_a_restarted_connector_repeats_is_passed_over(chain: Chain, lsn: int) -> None:
    chain.transaction(700, a=2)
    chain.begin(701)
    chain.event(A, 701, 1)
    chain.begin(700)
    chain.end(700, {B: 1}, lsn=lsn)  # its events are not sent again
    chain.event(A, 701, 2)
    chain.end(701, {A: 2}, lsn=120)
    chain.store()
    progress = Progress()
    assert chain.count(progress) == []
    assert progress.tally.checked == 2


@pytest.mark.parametrize("in_one_pass", [True, False])
def test_a_whole_transaction_that_comes_again_is_too_many(chain: Chain, in_one_pass: bool) -> None:
    progress = Progress()
    chain.transaction(700, a=2)
    chain.store()
    found = [] if in_one_pass else chain.count(progress)
    chain.begin(700)
    chain.event(A, 700, 1, lsn=101)
    chain.event(A, 700, 2, lsn=101)
    chain.end(700, {A: 2}, lsn=110)
    chain.store()
    found += chain.count(progress)
    [wrong] = found
    assert (wrong.kind, wrong.xid, wrong.topic, wrong.lsn) == ("surplus", 700, A, 110)


def test_a_connector_that_began_to_count_again_proves_nothing_and_alarms_nobody(
    chain: Chain,
) -> None:
    chain.begin(700)
    for number in (1, 2, 3, 1, 2):
        chain.event(A, 700, number)
    chain.end(700, {A: 2})
    chain.store()
    progress = Progress()
    assert chain.count(progress) == []
    assert progress.tally.unproven == 1


def test_the_same_numbers_are_a_double_where_the_connector_counted_again(chain: Chain) -> None:
    chain.begin(700)
    for number in (1, 2, 3, 1, 2):
        chain.event(A, 700, number)
    chain.end(700, {A: 3}, headers=COUNTED)
    chain.store()
    assert short(chain.count()) == [("surplus", 700, A, 3, 5)]


def test_a_transaction_id_that_is_used_again_is_another_transaction(chain: Chain) -> None:
    progress = Progress()
    chain.transaction(700, a=2)
    for xid in range(1_000, 1_000 + RECENT_MAX):
        progress.tally.judge([End(xid, Lsn(105), {}, False)], whole=False)
    chain.store()
    assert chain.count(progress) == []
    for xid in range(10_000, 10_000 + RECENT_MAX):
        progress.tally.judge([End(xid, Lsn(chain.commit), {}, False)], whole=False)
        chain.commit += 1
    chain.transaction(700, a=3)
    chain.store()
    assert chain.count(progress) == []


def test_a_source_whose_log_begins_again_at_lower_places_is_counted_on(chain: Chain) -> None:
    progress = Progress()
    chain.transaction(700, a=2)
    chain.store()
    assert chain.count(progress) == []
    chain.commit = 20
    chain.transaction(650, a=3)
    chain.store(but=lambda r: r.topic == A and r.offset == 6)
    assert short(chain.count(progress)) == [("short", 650, A, 3, 2)]


def test_what_is_behind_the_barrier_is_not_judged_yet(chain: Chain) -> None:
    chain.transaction(700, a=2)
    chain.store(records_max=9)
    before = chain.barrier
    progress = Progress()
    chain.transaction(701, a=2)
    chain.put.pop((TRANSACTIONS, 0))
    for path in (chain.folder / TRANSACTIONS).rglob("*.gz"):
        path.unlink()
    # The sink's object holds ENDs on both sides of the barrier; events of the second are missing.
    chain.put[(A, 0)] = len(chain.records[(A, 0)])
    chain.store(records_max=9)
    assert chain.count(progress, before) == []
    assert progress.tally.checked == 1
    assert short(chain.count(progress)) == [("short", 701, A, 2, 0)]
    assert progress.tally.checked == 2


def test_bronze_whose_beginning_was_removed_is_judged_from_there_on(chain: Chain) -> None:
    for xid in range(700, 720):
        chain.transaction(xid, a=3, b=1)
    chain.store(records_max=4)
    for path in sorted((chain.folder / A).rglob("*.gz"))[:4]:
        path.unlink()  # 16 of 60 events: five transactions, and a part of the sixth
    for path in sorted((chain.folder / TRANSACTIONS).rglob("*.gz"))[:1]:
        path.unlink()
    progress = Progress()
    assert chain.count(progress) == []
    assert progress.tally.checked == 14


def test_a_topic_that_kafka_has_dropped_is_still_counted(chain: Chain) -> None:
    chain.transaction(700, a=1, b=1)
    chain.store()
    barrier = chain.barrier
    kept = {place: at for place, at in barrier.positions.items() if place[0] == A}
    assert chain.count(None, Barrier(barrier.ends, kept)) == []


def test_a_long_history_is_counted_in_slices(chain: Chain, monkeypatch: Any) -> None:
    monkeypatch.setattr(reader, "ENDS_MAX", 7)
    for xid in range(700, 800):
        chain.transaction(xid, a=1 + xid % 4, b=xid % 2)
    chain.store(records_max=5, but=lambda r: r.topic == A and r.offset == 200)
    progress = Progress()
    most = 0
    counting = Counting(FolderBronze(chain.folder), "hw", progress)
    wrong: list[Miscount] = []
    for some in counting.run(chain.barrier):
        wrong += some or []
        most = max(most, len(progress.tally._open))
    assert [w.kind for w in wrong] == ["short"]
    assert progress.tally.checked == 100
    assert most <= 7 + 5 + 5 + 1, "a slice, and an object of each partition"


def test_a_transaction_of_a_million_events_takes_one_entry() -> None:
    tally = Tally()
    for begin in range(0, 1_000_000, 50_000):
        numbers = sum(range(begin + 1, begin + 50_001))
        assert tally.add(A, [EventRun(700, 50_000, numbers, Lsn(105))]) == []
    assert len(json.dumps(tally.to_json())) < 300
    assert tally.judge([End(700, Lsn(110), {A: 1_000_000}, False)], whole=True) == []


def random_history(chain: Chain, rng: random.Random) -> Iterator[set[tuple[str, int, str]]]:
    """Grow the chain; yields the errors so far each time something was stored."""
    wrong: set[tuple[str, int, str]] = set()
    lost: set[tuple[str, int, int]] = set()
    # A loss before the first count cannot be distinguished from a removal because of age.
    for topic in (A, B):
        for number in (1, 2):
            chain.event(topic, 699, number, partition=number - 1)
    chain.end(699, {A: 2, B: 2})
    for xid in range(700, 700 + rng.randint(5, 40)):
        chain.begin(xid)
        counts = {topic: rng.choice((0, 1, 2, 9)) for topic in (A, B)}
        for topic, count in counts.items():
            for number in range(1, count + 1):
                partition = rng.randrange(2)
                times = 2 if rng.random() < 0.01 else 1
                for _ in range(times):
                    chain.event(topic, xid, number, partition=partition)
                if times > 1:
                    wrong.add(("surplus", xid, topic))
                elif rng.random() < 0.01 and ("surplus", xid, topic) not in wrong:
                    lost.add((topic, partition, chain.records[(topic, partition)][-1].offset))
                    wrong.add(("short", xid, topic))
                if rng.random() < 0.02:
                    chain.store(rng.randint(1, 9), but=lambda r: (r[0], r[1], r[2]) in lost)
                    yield set()
        if rng.random() < 0.1 and xid > 700:
            chain.begin(xid - 1)
            commit, chain.commit = chain.commit, chain.commit
            chain.end(xid - 1, {}, lsn=commit)
        named = {topic: count for topic, count in counts.items() if count}
        chain.end(xid, named, headers=COUNTED)
        if rng.random() < 0.3:
            chain.store(rng.randint(1, 9), but=lambda r: (r[0], r[1], r[2]) in lost)
            yield wrong
    chain.store(but=lambda r: (r[0], r[1], r[2]) in lost)
    yield wrong


def pack(chain: Chain, rng: random.Random) -> None:
    """Pack some objects of each partition, and delete what was packed before."""
    limits = Limits(objects=rng.randint(2, 5), young_s=-1, kept_s=-1)
    ask = FakeStore(Folder(chain.folder)).ask
    passes = Passes(BronzeStore(STORE, ask), "hw", set, limits=limits)
    assert passes.run(Budget()).troubles == []


@pytest.mark.parametrize("number", range(examples(60)))
def test_a_counter_that_ends_anywhere_and_goes_on_finds_each_fault_once_and_no_other(
    tmp_path: Path, monkeypatch: Any, seed: int, number: int
) -> None:
    rng = random.Random(seed + number)
    monkeypatch.setattr(reader, "ENDS_MAX", rng.choice((1, 3, 5_000)))
    chain = Chain(tmp_path)
    kept = json.dumps(Progress().to_json())
    found: list[Miscount] = []
    expected: set[tuple[str, int, str]] = set()
    for so_far in random_history(chain, rng):
        expected = so_far
        if rng.random() < 0.3:
            pack(chain, rng)
        if rng.random() < 0.5 or (TRANSACTIONS, 0) not in chain.records:
            continue
        while True:
            progress = Progress.from_json(json.loads(kept))
            ended = False
            for some in Counting(FolderBronze(chain.folder), "hw", progress).run(chain.barrier):
                if some is not None:
                    found += some
                    kept = json.dumps(progress.to_json())
                if rng.random() < 0.1:
                    ended = True
                    break
            if not ended:
                break
    progress = Progress.from_json(json.loads(kept))
    for some in Counting(FolderBronze(chain.folder), "hw", progress).run(chain.barrier):
        found += some or []
    named = [(w.kind, w.xid, w.topic) for w in found]
    assert len(named) == len(set(named))
    assert {(x, t) for _, x, t in named} == {(x, t) for _, x, t in expected}


def test_an_object_that_ends_in_the_middle_is_an_error(chain: Chain) -> None:
    chain.transaction(700, a=1)
    chain.store()
    [path] = (chain.folder / A).rglob("*.gz")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UnreadableObjectError):
        chain.count()


def test_lines_are_read_as_the_sink_writes_them(chain: Chain) -> None:
    chain.transaction(700, a=2)
    chain.store(9)
    bronze = FolderBronze(chain.folder)
    body = bronze.content(next(bronze.objects(A, 0)))
    assert events(body) == [EventRun(700, 2, 3, Lsn(101))]
    assert commit_before(body) == 100
    [(offset, end)] = ends(bronze.content(next(bronze.objects(TRANSACTIONS, 0))), "hw")
    assert (offset, end) == (2, End(700, Lsn(110), {A: 2}, True))
