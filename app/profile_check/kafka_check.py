"""Checks a Kafka of one's own as the user that all clients sign in as; nothing is made there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

from app.environment.settings import Settings
from app.profile_check.reachable import check_tcp
from app.source.findings import MISSING, NOTE, OK

_TIMEOUT_MS = 5_000
# A client that is refused tries again until then, and says why only if it was answered once.
_SIGN_IN_MS = 15_000
_AGAIN_S = 0.5
_COPIES_ADVISED = 3
# As `message.max.bytes` of connect/kafka/server.properties.
_MESSAGE_BYTES = 67_108_864
# Connect's group, and the names or prefixes of its own topics, transactions and its sink's group.
WORKERS = "headwater-connect"
_SINK_GROUP = "connect-bronze"
# Debezium makes its topic of heartbeats outside the prefix, and its task fails without it.
_HEARTBEAT = "__debezium-heartbeat"

# (check, status, observation, what to do)
Observed = tuple[str, str, str, str]


def check_kafka(settings: Settings) -> Iterator[Observed]:
    """Connect and sign in, then ask for brokers, topics, groups and transactions."""
    kafka = settings.kafka
    away = 0
    addresses = kafka.addresses.split(",")
    for address in addresses:
        trouble, todo = check_tcp(address, default_port=9092)
        if trouble:
            away += 1
            yield "address", MISSING, trouble, todo
    if away == len(addresses):
        return
    with _listening() as reasons:
        try:
            with _admin(kafka.options) as client:
                yield "log-in", OK, f"as {kafka.user or 'nobody'}, by {kafka.security}", ""
                yield from _brokers(client, settings)
                yield from _topics(client, settings)
                yield from _groups_and_transactions(client, settings)
        except (kafka_errors.KafkaError, OSError) as error:
            yield "log-in", MISSING, *_explained(error, settings, reasons)


def _brokers(client: KafkaAdminClient, settings: Settings) -> Iterator[Observed]:
    cluster = client.describe_cluster()
    count = len(cluster["brokers"])
    todo = (
        ""
        if count >= _COPIES_ADVISED
        else "with three or more, a broker may be lost without a pause or a loss"
    )
    yield "brokers", NOTE if todo else OK, f"{count}", todo
    if {"ALTER", "CLUSTER_ACTION"} & set(cluster.get("authorized_operations") or ()):
        yield "hanging transactions", OK, f"{_user(settings)} may end them", ""
    else:
        observed = f"{_user(settings)} may not end one that a killed broker left open: readers wait"
        todo = _grant(settings, "--operation Describe --operation Alter --cluster", prefixed=False)
        yield "hanging transactions", NOTE, observed, todo


def _topics(client: KafkaAdminClient, settings: Settings) -> Iterator[Observed]:
    """Ask whether topics of the stack's names could be created, without creating any."""
    prefix = settings.profile.topic_prefix
    for begins in (f"{prefix}.", f"{_HEARTBEAT}.{prefix}", f"{WORKERS}-"):
        check, name = f"topics {begins}*", f"{begins}profile-check"
        try:
            [made] = client.create_topics([name], validate_only=True)["topics"]
        except kafka_errors.AuthorizationError:
            grants = _grant(settings, f"--operation All --topic {begins}", prefixed=True)
            yield check, MISSING, f"{_user(settings)} may not make them", grants
        except kafka_errors.InvalidReplicationFactorError:
            todo = "set default.replication.factor of the brokers to at most their number"
            yield check, MISSING, "there are fewer brokers than copies of a new topic", todo
        else:
            yield from _as_made(check, made)


def _as_made(check: str, made: dict[str, Any]) -> Iterator[Observed]:
    copies = int(made.get("replication_factor", -1))
    set_there = {name: one.get("value") for name, one in (made.get("configs") or {}).items()}
    if 0 < copies < _COPIES_ADVISED:
        todo = "set default.replication.factor=3 and min.insync.replicas=2 of the brokers"
        yield check, NOTE, f"can be made; a new one is on {copies} broker(s)", todo
    else:
        yield check, OK, f"can be made, on {copies} brokers" if copies > 0 else "can be made", ""
    largest = set_there.get("max.message.bytes")
    if largest is not None and int(largest) < _MESSAGE_BYTES:
        yield (
            f"{check} message size",
            NOTE,
            f"at most {largest} bytes: capture stops at a larger row",
            f"set message.max.bytes={_MESSAGE_BYTES} of the brokers",
        )


def _groups_and_transactions(client: KafkaAdminClient, settings: Settings) -> Iterator[Observed]:
    asked: dict[str, tuple[Callable[[], object], str, bool]] = {
        f"group {group}": (
            lambda group=group: client.describe_groups([group]),  # type: ignore[misc]
            f"--operation All --group {group}",
            False,
        )
        for group in (WORKERS, _SINK_GROUP)
    }
    for begins in (f"{WORKERS}-", f"connect-cluster-{WORKERS}"):
        asked[f"transactions {begins}*"] = (
            lambda begins=begins: client.describe_transactions([begins]),  # type: ignore[misc]
            f"--operation All --transactional-id {begins}",
            True,
        )
    for check, (ask, rights, prefixed) in asked.items():
        try:
            _patiently(ask)
        except kafka_errors.TransactionalIdNotFoundError:
            pass  # the request is allowed, and the topic does not exist yet
        except kafka_errors.AuthorizationError:
            todo = _grant(settings, rights, prefixed=prefixed)
            yield check, MISSING, f"{_user(settings)} may not use it", todo
            continue
        yield check, OK, f"{_user(settings)} may ask for it", ""


def _patiently(ask: Callable[[], object]) -> None:
    """Ask again while the brokers make their own topics, which the first client lets them do."""
    limit = time.monotonic() + _TIMEOUT_MS / 1_000
    while True:
        try:
            ask()
        except (
            kafka_errors.CoordinatorNotAvailableError,
            kafka_errors.CoordinatorLoadInProgressError,
            kafka_errors.NotCoordinatorError,
        ):
            if time.monotonic() > limit:
                raise
            time.sleep(_AGAIN_S)
        else:
            return


def _grant(settings: Settings, rights: str, *, prefixed: bool) -> str:
    first = settings.kafka.addresses.split(",")[0]
    kind = " --resource-pattern-type prefixed" if prefixed else ""
    return (
        f"kafka-acls.sh --bootstrap-server {first} --command-config ADMIN.properties --add "
        f"--allow-principal 'User:{settings.kafka.user or 'ANONYMOUS'}' {rights}{kind}"
    )


def _user(settings: Settings) -> str:
    return settings.kafka.user or "an anonymous client"


def _explained(error: Exception, settings: Settings, reasons: list[str]) -> tuple[str, str]:
    """Return the reason why a log-in fails; the client's messages have no password."""
    kafka = settings.kafka
    text = " ".join([f"{type(error).__name__}: {error}", *reasons])
    if "SaslAuthenticationFailed" in text:
        todo = (
            "check kafka_user, kafka_password and kafka_mechanism, and that the user is made there"
        )
        return f"{kafka.addresses} refuses {kafka.user} with {kafka.mechanism}", todo
    if "UnsupportedSaslMechanism" in text:
        todo = "set kafka_mechanism to one that the listener has enabled"
        return f"{kafka.addresses} does not offer {kafka.mechanism}", todo
    last = reasons[-1] if reasons else str(error)
    if "certificate" in text.lower() or "X509" in text:
        todo = "check kafka_ca, and that kafka_address has the hosts that the certificates name"
        return f"{kafka.addresses}: TLS failed: {last}", todo
    todo = "check kafka_security and kafka_mechanism, which must be the listener's, and that the broker has started"
    return f"{kafka.addresses} does not answer by {kafka.security}: {last}", todo


class _Reasons(logging.Handler):
    """Records the client's log of an attempt, because at its end the client only raises a time-out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exceptions of a log record; if it has none, its text."""
        given = record.args if isinstance(record.args, tuple) else ()
        errors = [f"{type(one).__name__}: {one}" for one in given if isinstance(one, Exception)]
        self.found += errors or [record.getMessage()]


@contextmanager
def _listening() -> Iterator[list[str]]:
    client = logging.getLogger("kafka")
    reasons, passed_on = _Reasons(), client.propagate
    client.addHandler(reasons)
    client.propagate = False
    try:
        yield reasons.found
    finally:
        client.propagate = passed_on
        client.removeHandler(reasons)


@contextmanager
def _admin(options: dict[str, Any]) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(
        **options,
        client_id="headwater-profile-check",
        request_timeout_ms=_TIMEOUT_MS,
        bootstrap_timeout_ms=_SIGN_IN_MS,
    )
    try:
        yield client
    finally:
        client.close()
