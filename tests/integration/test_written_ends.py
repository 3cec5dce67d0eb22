"""The written end of a partition differs from the end for readers of committed records."""

from __future__ import annotations

from contextlib import closing

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from app.lake import topic_tail as tail
from spark_streaming.contract.table_share import TableShare
from spark_streaming.reading.written_ends import WrittenEnds
from tests.support.stack import Stack


def test_records_of_an_open_transaction_are_written_and_not_shown(carriers: Stack) -> None:
    topic, kafka = "written.public.films", carriers.settings.kafka
    client = KafkaAdminClient(**kafka.options)
    client.create_topics([NewTopic(topic, 1, 1), NewTopic("written.stream-logs", 1, 1)])
    client.close()
    producer = KafkaProducer(**kafka.options, transactional_id="written")
    with (
        closing(WrittenEnds(kafka, TableShare().topic_pattern("written"))) as written,
        closing(producer),
        closing(tail.open_consumer(kafka)) as consumer,
    ):
        assert written() == {topic: {0: 0}}
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, b"on its way", partition=0).get(30)
        assert tail.end_offsets(consumer, topic) == {0: 0}
        assert written() == {topic: {0: 1}}
        producer.commit_transaction()
        tail.await_visible(consumer, [topic], {topic: {0: 2}})
        assert written() == {topic: {0: 2}}
