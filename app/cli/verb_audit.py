"""Records in the audit that a verb shows values which Trino may hide, or changes access."""

from __future__ import annotations

import contextlib
import getpass
import json
import socket
import sys
import threading
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Literal

from app.environment.settings import Settings

# A person waits for a verb.
WAIT_S = 2.0


def record_verb(
    settings: Settings,
    verb: str,
    words: Sequence[str],
    tables: Sequence[str] = (),
    *,
    kind: Literal["verb", "change"] = "verb",
) -> None:
    """Put an event on the audit's topic; nothing without `audit` in the profile.

    It waits for the broker for two seconds at most, and then says on stderr that it was not recorded.

    To be called before the first value is shown, or after the change is made.

    Args:
        kind: `verb`: it shows values; `change`: it changes access to values. words: the verb's arguments, without
        secrets.
        tables: those that it shows, as `schema.table`.
    """
    if not settings.profile.audit:
        return
    event = {
        "kind": kind,
        "verb": verb,
        "key": f"{kind}:{uuid.uuid4()}",
        "time": datetime.now(timezone.utc).isoformat(),
        "user": getpass.getuser(),
        "machine": socket.gethostname(),
        "words": " ".join([verb, *words]),
        "tables": ", ".join(tables) or None,
    }
    failures: list[str] = []
    sent = threading.Event()

    def send() -> None:
        failure = _send(settings, json.dumps(event).encode())
        if failure:
            failures.append(failure)
        sent.set()

    threading.Thread(target=send, name="audit", daemon=True).start()
    if not sent.wait(WAIT_S):
        failures.append(f"Kafka did not answer within {WAIT_S:.0f} s")
    if failures:
        print(f"not recorded in the audit: {failures[0]}", file=sys.stderr)


def _send(settings: Settings, value: bytes) -> str | None:
    """Send one record; return the error, or None."""
    import logging

    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    from spark_streaming.streams.audit.audit_stream import audit_topic

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the sentence above says it
    limit_ms = int(WAIT_S * 1000)
    try:
        producer = KafkaProducer(
            **settings.kafka.options,
            client_id="headwater-verbs",
            acks="all",
            max_block_ms=limit_ms,
            request_timeout_ms=limit_ms,
            delivery_timeout_ms=limit_ms,
            bootstrap_timeout_ms=limit_ms,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        producer.send(audit_topic(settings.profile.topic_prefix), value=value).get(timeout=WAIT_S)
        with contextlib.suppress(KafkaError):
            producer.close(timeout=0)
    except (KafkaError, OSError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return None
