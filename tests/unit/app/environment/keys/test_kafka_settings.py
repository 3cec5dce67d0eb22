"""The settings of a user's Kafka, and which of them each client gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.environment.profile import Profile
from app.environment.settings import Settings, checked
from app.environment.toml_files import SettingsError
from spark_streaming.storage.kafka_cluster import RECONNECT_MAX_MS, KafkaCluster, kafka_of

OWN = {
    "kafka_address": "one.example:9094,two.example:9094",
    "kafka_security": "SASL_SSL",
    "kafka_user": "lake",
    "kafka_password": "open sesame",
    "kafka_ca": "/etc/kafka/ca.pem",
}


def settings_of(tmp_path: Path, **keys: object) -> Settings:
    found = Settings(tmp_path, Profile.model_validate(keys))
    found.ports.declare({"kafka": 19092})
    return found


def test_the_stacks_own_brokers_are_asked_without_a_log_in(tmp_path: Path) -> None:
    kafka = settings_of(tmp_path).kafka
    assert kafka.options == {
        "bootstrap_servers": "127.0.0.1:19092",
        "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
    }
    assert kafka.worker_properties() == ""
    assert kafka.sink_options() == {}
    assert kafka.spark_options() == {"kafka.bootstrap.servers": "127.0.0.1:19092"}


def test_clients_sign_in_at_a_kafka_of_ones_own(tmp_path: Path) -> None:
    kafka = settings_of(tmp_path, **OWN).kafka
    assert kafka.options == {
        "bootstrap_servers": OWN["kafka_address"],
        "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
        "security_protocol": "SASL_SSL",
        "ssl_cafile": "/etc/kafka/ca.pem",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "lake",
        "sasl_plain_password": "open sesame",
    }
    assert kafka.spark_options() == {
        "kafka.bootstrap.servers": OWN["kafka_address"],
        "kafka.security.protocol": "SASL_SSL",
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.truststore.location": "/etc/kafka/ca.pem",
        "kafka.sasl.mechanism": "SCRAM-SHA-512",
        "kafka.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required "
            'username="lake" password="open sesame";'
        ),
    }


def test_the_worker_and_each_client_that_it_makes_sign_in(tmp_path: Path) -> None:
    lines = settings_of(tmp_path, **OWN).kafka.worker_properties().splitlines()
    for client in ("", "producer.", "consumer.", "admin."):
        assert f"{client}security.protocol=SASL_SSL" in lines
        assert any(line.startswith(f"{client}sasl.jaas.config=") for line in lines)


def test_a_connectors_configuration_names_the_password_and_does_not_hold_it(tmp_path: Path) -> None:
    options = settings_of(tmp_path, **OWN).kafka.sink_options()
    assert 'password="${env:HEADWATER_KAFKA_PASSWORD}";' in options["kafka.sasl.jaas.config"]
    assert "sesame" not in str(options)


def test_a_service_gets_the_log_in_from_its_environment(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, **OWN)
    assert kafka_of(settings.environment()) == settings.kafka
    assert "HEADWATER_KAFKA_PASSWORD" not in settings.environment(("capture",))
    assert "sesame" not in repr(settings.kafka) + str(settings.kafka)


def test_topics_of_a_kafka_of_ones_own_have_the_copies_that_it_says(tmp_path: Path) -> None:
    assert settings_of(tmp_path, **OWN).profile.replication_factor == -1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kafka_address": None}, "give kafka_address too"),
        ({"kafka_password": None}, "give kafka_user and kafka_password"),
        ({"kafka_mechanism": "GSSAPI"}, "is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"kafka_password": 'a"b'}, "cannot be used"),
        ({"kafka_address": "example"}, "kafka_address"),
    ],
)
def test_half_a_log_in_is_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    given = {k: v for k, v in {**OWN, **change}.items() if v is not None}
    with pytest.raises(SettingsError) as refused:
        checked(tmp_path, given, origin="a profile")
    assert says in str(refused.value)
    assert "sesame" not in str(refused.value)


def test_an_address_alone_means_no_log_in() -> None:
    assert kafka_of({"HEADWATER_KAFKA": "here:9092"}) == KafkaCluster("here:9092")
