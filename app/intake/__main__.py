"""`python -m app.intake`: the service `intake`, which accepts events over HTTP."""

from __future__ import annotations

import logging
import os
import sys
import time

from kafka.errors import KafkaError

from app.bounded_http import Limits, server_of
from app.environment.encryption.pair_files import given_pair
from app.environment.settings import Settings, load
from app.errors import HeadwaterError
from app.intake.accept import Streams
from app.intake.api import make_api
from spark_streaming.streams.producer import StreamProducer, ensure_topics

# Requests wait for the broker, also at a stop; a body may wait for a thread that waits for it.
LIMITS = Limits(connections_max=200, body_s=60.0, stop_s=15)
TOPICS_ATTEMPTS = 5
log = logging.getLogger("intake")


def _ensure_topics(settings: Settings, streams: Streams) -> None:
    for left in reversed(range(TOPICS_ATTEMPTS)):
        try:
            ensure_topics(
                settings.kafka,
                settings.topic_prefix,
                streams.all(),
                settings.profile.topic_partitions,
            )
            return
        except KafkaError as error:
            if not left:
                raise HeadwaterError(
                    "the streams' topics cannot be made",
                    detail=f"{type(error).__name__}: {error}",
                    hint="see `./headwater status kafka`",
                ) from error
            time.sleep(1.0)


def main() -> int:
    """Serve until stopped."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("kafka").setLevel(logging.ERROR)
    try:
        settings = load()
        streams = Streams(os.environ.get("HEADWATER_CONTRACTS_PATH", ""))
        _ensure_topics(settings, streams)
    except HeadwaterError as error:
        log.error("%s", error)
        return 1
    producer = StreamProducer(settings.kafka)
    api = make_api(
        streams,
        producer,
        prefix=settings.topic_prefix,
        token=os.environ["HEADWATER_INTAKE_TOKEN"],
    )
    port, pair = int(os.environ["HEADWATER_INTAKE_PORT"]), given_pair(os.environ)
    server_of(api, settings.ports.bind, port, LIMITS, pair).run()
    producer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
