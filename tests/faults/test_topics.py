"""Kafka's topics: a range delivered twice, a topic expired while silver was away.

A topic that is deleted and created again is in `tests/integration/test_bronze_stopped.py`.
"""

from __future__ import annotations

from contextlib import ExitStack, closing

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from tests.support.bronze import bronze
from tests.support.fault import Fault, Scene
from tests.support.waiting import until

TWICE = ("pgbench_accounts", "pgbench_history")  # with a key and without one
EXPIRED = "pgbench_history"
RANGE = 40  # events
BUCKET = "bronze"
SOON_S = 240.0

pytestmark = pytest.mark.timeout(1_200)


def test_events_that_expired_while_silver_was_away_come_from_bronze(
    scene: Scene, seed: int
) -> None:
    away = ExitStack()

    def inject() -> None:
        away.enter_context(scene.stack.without("silver"))
        start = end_of(scene, EXPIRED)
        until(
            lambda: end_of(scene, EXPIRED) - start,
            lambda more: more > RANGE,
            within_s=SOON_S,
            what="events that silver has not seen",
        )

    def heal() -> None:
        kept = [place.offset for place, _ in bronze(scene.stack.settings, BUCKET, f"{topic}/")]
        print(f"Kafka drops {topic} up to offset {max(kept)}")
        with admin(scene) as client:
            client.delete_records({partition(EXPIRED): max(kept) + 1})
        away.close()

    topic = partition(EXPIRED).topic
    with scene.load(seed):
        scene.suffer(Fault("expired while silver was away", inject, heal, ("TableStale",)))
    log = (scene.stack.home / "run" / "silver" / "stderr.log").read_text(errors="replace")
    assert "reading them from bronze" in log
    scene.prove()


def test_a_range_that_is_delivered_twice_changes_nothing_and_is_counted(
    scene: Scene, seed: int
) -> None:
    with scene.load(seed):
        scene.suffer(
            Fault("a range delivered twice", lambda: deliver_again(scene), alerts=("BronzeCounts",))
        )
    scene.prove(bronze=False)
    said = scene.stack.run("verify", "--bronze", expect=None, timeout_s=600)
    assert said.returncode == 1, said.stdout
    assert all(name in said.stdout + said.stderr for name in TWICE), said


def admin(scene: Scene) -> closing[KafkaAdminClient]:
    return closing(KafkaAdminClient(**scene.stack.settings.kafka.options))


def partition(table: str) -> TopicPartition:
    return TopicPartition(f"hw.public.{table}", 0)


def end_of(scene: Scene, table: str) -> int:
    place = partition(table)
    with closing(KafkaConsumer(**scene.stack.settings.kafka.options)) as consumer:
        return int(consumer.end_offsets([place])[place])


def deliver_again(scene: Scene) -> None:
    """Send some of the newest events of tables again, byte for byte."""
    options = scene.stack.settings.kafka.options
    for table in TWICE:
        place, end = partition(table), end_of(scene, table)
        with (
            closing(KafkaConsumer(**options, consumer_timeout_ms=5_000)) as consumer,
            closing(KafkaProducer(**options)) as producer,
        ):
            consumer.assign([place])
            consumer.seek(place, max(0, end - 3 * RANGE))
            for number, record in enumerate(consumer):
                if number == RANGE:
                    break
                producer.send(
                    place.topic, record.value, record.key, list(record.headers), partition=0
                ).get(30)
