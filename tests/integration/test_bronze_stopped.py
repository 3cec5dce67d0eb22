"""A failure of one topic stops only that topic in bronze; bronze proves which gaps in its offsets are no loss.

A real worker, broker and object store.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kafka import TopicPartition

from app.lake.bronze_stopped import StoppedPartition, stopped_partitions
from app.lake.lakehouse import Lakehouse
from app.verify.bronze_check import PartitionReport, check_partition
from app.verify.bronze_records import Bronze
from spark_streaming.reading.expired_events import Archive, NotArchivedError
from tests.integration.test_bronze_sink import (
    BUCKET,
    admin,
    await_bronze_equals_kafka,
    await_kept,
    make_topics,
    producer,
    put_copied_object,
    send,
    sink_config,
)
from tests.support.bronze import bronze, objects
from tests.support.connectors import Connectors
from tests.support.stack import Stack
from tests.support.waiting import until

NO_KAFKA = 1 << 40


@pytest.fixture
def connectors(carriers: Stack) -> Connectors:
    return Connectors(carriers.settings.connect_url)


def await_stopped(carriers: Stack, topic: str, text: str) -> StoppedPartition:
    [found] = until(
        lambda: [one for one in stopped_partitions(carriers.settings) if one.topic == topic],
        lambda notes: any(text in one.why for one in notes),
        within_s=90,
        what=f"{topic} is stopped: {text}",
    )
    assert "hint: " in found.why
    return found


def await_carried(carriers: Stack, topic: str) -> None:
    until(
        lambda: [one.topic for one in stopped_partitions(carriers.settings)],
        lambda topics: topic not in topics,
        within_s=90,
        what=f"{topic} is carried again",
    )


def values(carriers: Stack, topic: str) -> list[bytes | None]:
    return [kept.value for _, kept in bronze(carriers.settings, BUCKET, f"{topic}/")]


def await_values(carriers: Stack, topic: str, count: int) -> None:
    until(
        lambda: values(carriers, topic),
        lambda found: len(found) == count,
        within_s=60,
        what=f"{count} records of {topic} in bronze",
    )


def drop(carriers: Stack, topic: str, before: int) -> None:
    """Delete Kafka's records below an offset, as retention does."""
    with admin(carriers) as client:
        client.delete_records({TopicPartition(topic, 0): before})


def remake(carriers: Stack, topic: str) -> None:
    with admin(carriers) as client:
        client.delete_topics([topic])
        until(lambda: topic not in client.list_topics(), within_s=30, what="the topic is gone")
    make_topics(carriers, topic)


def report(carriers: Stack, topic: str) -> PartitionReport:
    """The result of `verify --bronze` after Kafka has dropped all records of the topic."""
    kept = Bronze(Lakehouse(carriers.settings).bronze_files())
    lines = [line for path in kept.objects(topic, 0) for line in kept.lines(path)]
    return check_partition(lines, [], NO_KAFKA)


def archived(carriers: Stack, topic: str, start: int, end: int) -> list[int]:
    """The offsets that silver reads from bronze instead of Kafka."""
    files = Lakehouse(carriers.settings).bronze_files()
    return [event.offset for event in Archive(Bronze(files)).read(topic, 0, start, end)]


def test_events_that_kafka_dropped_stop_their_partition_loudly_and_no_other(
    carriers: Stack, connectors: Connectors
) -> None:
    make_topics(carriers, "gap.a", "gap.b")
    connectors.put("gap", sink_config("gap"))
    send(carriers, "gap.a", [b"0"])  # the marker stands at offset 1
    send(carriers, "gap.b", [b"0"])
    await_kept(carriers, "gap", 2)
    connectors.stop("gap")
    send(carriers, "gap.a", [b"2", b"3"])
    drop(carriers, "gap.a", 3)
    send(carriers, "gap.b", [b"goes on"])
    connectors.resume("gap")

    found = await_stopped(carriers, "gap.a", "Kafka no longer holds offsets 1 to 2 of gap.a-0")
    assert "hint: the sink was behind for longer than Kafka's retention" in found.why
    await_values(carriers, "gap.b", 2)
    assert values(carriers, "gap.a") == [b"0"]
    connectors.await_state("gap", "RUNNING")
    said = carriers.run("status", expect=None).stderr
    assert f"bronze does not keep gap.a partition 0: {found.why.splitlines()[0]}" in said

    connectors.put("gap", sink_config("gap", **{"on.gap": "skip"}))
    await_values(carriers, "gap.a", 2)
    await_carried(carriers, "gap.a")
    assert values(carriers, "gap.a") == [b"0", b"3"]
    # The loss stays recorded, although one of the missing offsets might have been a marker.
    assert [f.span for f in report(carriers, "gap.a").findings] == ["1 to 2"]
    with pytest.raises(NotArchivedError, match="the offsets 1 to 2"):
        archived(carriers, "gap.a", 0, 4)
    connectors.delete("gap")


def test_a_topic_that_was_made_again_is_refused_while_the_sink_runs_and_others_go_on(
    carriers: Stack, connectors: Connectors
) -> None:
    make_topics(carriers, "again.a", "again.b", "again.c")
    connectors.put("again", sink_config("again"))
    for topic in ("again.a", "again.b", "again.c"):
        send(carriers, topic, [b"old"] * 3)
    await_kept(carriers, "again", 9)
    remake(carriers, "again.a")
    send(carriers, "again.a", [b"new", b"new"])
    send(carriers, "again.b", [b"goes on"])
    await_values(carriers, "again.b", 4)
    await_stopped(carriers, "again.a", "the topic again.a is not the one that bronze holds")

    connectors.stop("again")
    remake(carriers, "again.c")
    send(carriers, "again.c", [b"new"] * 9)
    connectors.resume("again")
    await_stopped(carriers, "again.c", "the topic again.c is not the one that bronze holds")
    send(carriers, "again.b", [b"goes on"])
    await_values(carriers, "again.b", 5)
    assert set(values(carriers, "again.a") + values(carriers, "again.c")) == {b"old"}
    connectors.delete("again")


def strangers_object(carriers: Stack, topic: str) -> Callable[[], None]:
    place = carriers.home / f"data/s3/{BUCKET}/{topic}/partition=0/block={0:016}/notes.txt"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    return place.unlink


def damaged_object(carriers: Stack, topic: str) -> Callable[[], None]:
    put_copied_object(carriers, topic, 0)
    [place] = (carriers.home / f"data/s3/{BUCKET}/{topic}").rglob("*.gz")
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])

    def repair() -> None:
        place.write_bytes(whole)

    return repair


@pytest.mark.parametrize("harm", [strangers_object, damaged_object])
def test_a_partition_whose_place_in_the_bucket_is_spoilt_stops_alone_and_goes_on_when_it_is_not(
    carriers: Stack, connectors: Connectors, harm: Callable[[Stack, str], Callable[[], None]]
) -> None:
    name = harm.__name__.replace("_", "-")
    spoilt, other = f"{name}.a", f"{name}.b"
    make_topics(carriers, spoilt, other)
    repair = harm(carriers, spoilt)
    connectors.put(name, sink_config(name))
    send(carriers, spoilt, [b"x", b"1"])
    for count in (1, 2):
        send(carriers, other, [b"goes on"])
        await_values(carriers, other, count)
    until(
        lambda: [one.topic for one in stopped_partitions(carriers.settings)],
        lambda topics: spoilt in topics,
        within_s=60,
        what="the stopped partition is noted",
    )
    repair()
    await_values(carriers, spoilt, 2)
    await_carried(carriers, spoilt)
    connectors.await_state(name, "RUNNING")
    connectors.delete(name)


def aborted(carriers: Stack, topic: str, count: int) -> None:
    with producer(carriers, f"{topic}-aborter") as client:
        client.begin_transaction()
        for _ in range(count):
            client.send(topic, key=b"k", value=b"never happened", partition=0)
        client.flush()
        client.abort_transaction()


def test_bronze_proves_that_gaps_of_aborted_transactions_are_no_loss_when_kafka_has_nothing_left(
    carriers: Stack, connectors: Connectors
) -> None:
    topic = "proof.a"
    make_topics(carriers, topic)
    connectors.put("proof", sink_config("proof"))
    aborted(carriers, topic, 5)  # 0 to 4, marker 5
    send(carriers, topic, [b"6"])  # marker 7
    await_values(carriers, topic, 1)
    aborted(carriers, topic, 7)  # 8 to 14, marker 15
    send(carriers, topic, [b"16"])  # marker 17
    await_values(carriers, topic, 2)
    connectors.stop("proof")  # A restart continues after the last object of the bucket.
    aborted(carriers, topic, 3)  # 18 to 20, marker 21
    send(carriers, topic, [b"22"])  # marker 23
    connectors.resume("proof")
    await_values(carriers, topic, 3)
    # The sink passes the offsets after the last record while the topic is quiet; they expire before the next record.
    aborted(carriers, topic, 4)  # 24 to 27, marker 28
    until(
        lambda: connectors.committed("proof", topic),
        lambda offset: offset == 29,
        within_s=60,
        what="the place behind the aborted records is committed",
    )
    connectors.stop("proof")
    drop(carriers, topic, 29)
    connectors.resume("proof")
    send(carriers, topic, [b"29"])
    await_values(carriers, topic, 4)

    assert report(carriers, topic).complete
    assert archived(carriers, topic, 0, 30) == [6, 16, 22, 29]
    assert archived(carriers, topic, 7, 23) == [16, 22]
    assert topic not in [one.topic for one in stopped_partitions(carriers.settings)]
    # A deleted object leaves a gap that the next object does not cover.
    paths = objects(carriers.settings, BUCKET, topic)
    (carriers.home / "data" / "s3" / paths[2]).unlink()
    assert [f.span for f in report(carriers, topic).findings] == ["17 to 22"]
    with pytest.raises(NotArchivedError, match="the offsets 17 to 22"):
        archived(carriers, topic, 0, 30)
    connectors.delete("proof")


def test_a_single_record_that_was_lost_between_two_of_one_transaction_is_no_marker(
    carriers: Stack, connectors: Connectors
) -> None:
    topic = "single.a"
    make_topics(carriers, topic)
    connectors.put("single", sink_config("single", **{"flush.records": "1"}))
    send(carriers, topic, [b"0", b"1", b"2"])
    assert await_bronze_equals_kafka(carriers, "single") == 3
    connectors.delete("single")
    assert report(carriers, topic).complete
    paths = objects(carriers.settings, BUCKET, topic)
    (carriers.home / "data" / "s3" / paths[1]).unlink()
    assert [f.span for f in report(carriers, topic).findings] == ["1 to 1"]
    with pytest.raises(NotArchivedError, match="the offsets 1 to 1"):
        archived(carriers, topic, 0, 3)
