"""The profile's keys for the user's own Kafka."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from app.environment.toml_files import NATIVE
from spark_streaming.storage.kafka_cluster import MECHANISMS


class KafkaSettings(BaseModel):
    """The address of the user's own Kafka, and the user name of its clients."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kafka_address: Annotated[str | None, NATIVE] = Field(
        default=None, pattern=r"^[^\s,]+:\d+(,[^\s,]+:\d+)*$"
    )
    """Your own Kafka, as `host:port`, several with commas; unset: brokers of this stack. It must let the
    stack make topics, and use transactions and the consumer groups `headwater-connect` and `connect-bronze`."""
    kafka_security: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], NATIVE] = (
        "PLAINTEXT"
    )
    """How clients reach your own Kafka, as its `security.protocol`."""
    kafka_mechanism: Annotated[str, NATIVE] = "SCRAM-SHA-512"
    """The SASL mechanism there: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`."""
    kafka_user: Annotated[str | None, NATIVE] = Field(default=None, pattern=r'^[^"\\\s]+$')
    """The user that all clients sign in as."""
    kafka_password: Annotated[SecretStr | None, NATIVE] = None
    """The user's password."""
    kafka_ca: Annotated[str | None, NATIVE] = None
    """A PEM file of the authorities that your brokers' certificates are checked by; unset: the runtime's own."""

    @field_validator("kafka_mechanism")
    @classmethod
    def _known_mechanism(cls, name: str) -> str:
        if name not in MECHANISMS:
            raise ValueError(f"{name!r} is none of {', '.join(MECHANISMS)}")
        return name

    @field_validator("kafka_password")
    @classmethod
    def _fits_a_configuration(cls, password: SecretStr | None) -> SecretStr | None:
        text = password.get_secret_value() if password else ""
        if any(sign in '"\\' or not sign.isprintable() for sign in text):
            raise ValueError("quotation marks, backslashes and control characters cannot be used")
        return password

    @model_validator(mode="after")
    def _whole_log_in(self) -> KafkaSettings:
        if self.kafka_address is None and self.kafka_security != "PLAINTEXT":
            raise ValueError("kafka_security is of your own Kafka: give kafka_address too")
        if self.kafka_security.startswith("SASL") and None in (
            self.kafka_user, self.kafka_password,
        ):  # fmt: skip
            raise ValueError("kafka_security asks for a log-in: give kafka_user and kafka_password")
        return self

    @property
    def embedded_kafka(self) -> bool:
        """Whether the brokers are this stack's own."""
        return self.kafka_address is None
