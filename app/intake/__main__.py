"""`python -m app.intake`: the service `intake`, which takes events over HTTP."""

from __future__ import annotations

import logging
import os
import sys
import time

import uvicorn
from kafka.errors import KafkaError

from app.errors import HeadwaterError
from app.intake.api import make_api
from app.intake.take import Streams
from app.settings import Settings, load
from spark_streaming.streams.producer import StreamProducer, ensure_topics

CONNECTIONS_MAX = 200
STOP_S = 15  # requests under way wait for the broker at most so long
TOPICS_TRIES = 5
log = logging.getLogger("intake")


def _ensure_topics(settings: Settings, streams: Streams) -> None:
    for left in reversed(range(TOPICS_TRIES)):
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
    uvicorn.run(
        api,
        host=settings.bind,
        port=int(os.environ["HEADWATER_INTAKE_PORT"]),
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=STOP_S,
        ws="none",
    )
    producer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
