"""Kafka's addresses and log-in, made in one place, as the object store's address is.

They come from the profile (`app.environment.settings`) or from a service's `HEADWATER_*` variables.
The options of each client are derived here: kafka-python, and Java's clients (Connect, the bronze
sink, Spark).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PLAINTEXT = "PLAINTEXT"
# The log-in modules of Java's clients by SASL mechanism; kafka-python knows the same three.
# The longest pause before a kafka-python client reconnects. The pause doubles after each failed attempt, by default
# up to 30 s; after a restart of the broker, silver then waited ten more seconds.
RECONNECT_MAX_MS = 1_000
MECHANISMS = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
# Field of KafkaCluster → the variable in which services get it.
KAFKA_VARIABLES = {
    "addresses": "HEADWATER_KAFKA",
    "security": "HEADWATER_KAFKA_SECURITY",
    "mechanism": "HEADWATER_KAFKA_MECHANISM",
    "user": "HEADWATER_KAFKA_USER",
    "password": "HEADWATER_KAFKA_PASSWORD",
    "ca": "HEADWATER_KAFKA_CA",
}
# Prefixes of a worker's settings: its own client, and those that it makes for connectors.
_WORKER_CLIENTS = ("", "producer.", "consumer.", "admin.")


@dataclass(frozen=True)
class KafkaCluster:
    """Kafka's addresses and the log-in of its clients. Holds a password, which `repr` leaves out.

    Args:
        addresses: `host:port`, separated by commas.
        security: Kafka's `security.protocol`; PLAINTEXT asks for neither TLS nor a log-in.
        mechanism: one of MECHANISMS, if `security` begins with SASL.
        ca: a PEM file of the authorities that sign the brokers' certificates; empty: the runtime's
            own.
    """

    addresses: str
    security: str = PLAINTEXT
    mechanism: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""

    def __str__(self) -> str:
        return self.addresses

    @property
    def options(self) -> dict[str, Any]:
        """The options of a client of kafka-python; they hold the password."""
        found: dict[str, Any] = {
            "bootstrap_servers": self.addresses,
            "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
        }
        if self.security == PLAINTEXT:
            return found
        found["security_protocol"] = self.security
        # Imported here, so that a process without a kafka-python client need not load it.
        from spark_streaming.storage.kafka_consumer import bound_handshakes

        bound_handshakes()
        if self.ca:
            found["ssl_cafile"] = self.ca
        if self.mechanism:
            found["sasl_mechanism"] = self.mechanism
            found["sasl_plain_username"] = self.user
            found["sasl_plain_password"] = self.password
        return found

    def log_in(self, password: str | None = None) -> dict[str, str]:
        """Return the properties of a Java client about TLS and log-in; none for PLAINTEXT.

        Args:
            password: a placeholder, if the client reads the password from elsewhere.
        """
        if self.security == PLAINTEXT:
            return {}
        found = {"security.protocol": self.security}
        if self.ca:
            found["ssl.truststore.type"] = "PEM"
            found["ssl.truststore.location"] = self.ca
        if self.mechanism:
            found["sasl.mechanism"] = self.mechanism
            found["sasl.jaas.config"] = jaas(
                self.mechanism, self.user, self.password if password is None else password
            )
        return found

    def worker_properties(self) -> str:
        """Return the lines of a Connect worker about the log-in of its clients; empty for PLAINTEXT."""
        return "\n".join(
            f"{prefix}{name}={value}"
            for prefix in _WORKER_CLIENTS
            for name, value in self.log_in().items()
        )

    def sink_options(self) -> dict[str, str]:
        """Return the log-in of the bronze sink's own client; the worker reads the password itself."""
        variable = f"${{env:{KAFKA_VARIABLES['password']}}}"
        return {f"kafka.{name}": value for name, value in self.log_in(variable).items()}

    def spark_options(self) -> dict[str, str]:
        """Return the options of Spark's Kafka source; they hold the password."""
        found = {"bootstrap.servers": self.addresses, **self.log_in()}
        return {f"kafka.{name}": value for name, value in found.items()}

    def variables(self) -> dict[str, str]:
        """Return the `HEADWATER_KAFKA*` variables from which `kafka_of` makes this cluster."""
        return {variable: getattr(self, name) for name, variable in KAFKA_VARIABLES.items()}


def kafka_of(environment: Mapping[str, str]) -> KafkaCluster:
    """Read a cluster from environment variables; variables that are not set have defaults."""
    given = {name: environment.get(variable) for name, variable in KAFKA_VARIABLES.items()}
    return KafkaCluster(**{"addresses": "", **{k: v for k, v in given.items() if v}})


def jaas(mechanism: str, user: str, password: str) -> str:
    """Return a `sasl.jaas.config` that signs in with a user and a password."""
    return (
        f"{MECHANISMS[mechanism]} required username={_quoted(user)} password={_quoted(password)};"
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
