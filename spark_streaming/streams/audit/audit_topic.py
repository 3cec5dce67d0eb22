"""`python -m spark_streaming.streams.audit.audit_topic`: the one-shot `audit-topic`.

Brokers do not create topics automatically. If the topic or Kafka is missing when Trino starts, Trino's event listener
sends nothing until the next start.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable

from kafka.errors import KafkaError

from spark_streaming.storage.kafka_cluster import KafkaCluster, kafka_of
from spark_streaming.streams.audit.audit_stream import AuditStream, audit_stream
from spark_streaming.streams.producer import ensure_topics

log = logging.getLogger("audit-topic")
# A broker is ready within some 10 s. After that Trino starts without it.
WAIT_S = 45.0
PAUSE_S = 1.0


def make_topic(
    kafka: KafkaCluster,
    prefix: str,
    stream: AuditStream,
    wait_s: float = WAIT_S,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Make the audit's topic, of one partition, so that its events keep their order.

    Returns: whether it exists; False if Kafka did not answer within `wait_s`.
    """
    deadline = clock() + wait_s
    while True:
        try:
            ensure_topics(kafka, prefix, [stream], partitions=1)
            return True
        except (KafkaError, OSError) as error:
            if clock() >= deadline:
                log.warning(
                    "Kafka does not answer (%s): Trino starts all the same, and sends no events to the "
                    "audit until its next start\n  hint: when Kafka runs, restart Trino",
                    error,
                )
                return False
            time.sleep(PAUSE_S)


def main() -> int:
    """Make the topic; the exit code is 0 without Kafka, too, because Trino waits for this process."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    prefix = os.environ.get("HEADWATER_TOPIC_PREFIX", "hw")
    make_topic(kafka_of(os.environ), prefix, audit_stream())
    return 0


if __name__ == "__main__":
    sys.exit(main())
