"""The differences of an encrypted stack's services; the documents name each service without encryption."""

from __future__ import annotations

from app.environment.profile import Profile
from app.environment.settings import ROOT
from app.services.described import services_of
from app.services.description_parts import Encrypted
from app.services.service import load_services

ENCRYPTED = Profile.model_validate({"encryption": True})


def test_without_encryption_every_service_is_as_its_file_says() -> None:
    assert services_of(ROOT, Profile.model_validate({})) == load_services(ROOT)


def test_what_a_service_adds_where_it_is_encrypted_is_there_in_every_instance() -> None:
    profile = Profile.model_validate({"encryption": True, "kafka_brokers": 3})
    found = services_of(ROOT, profile)
    for name in ("kafka", "kafka-3"):
        assert found[name].append == {"server.properties": "kafka/encrypted.properties"}
        alive = found[name].alive
        assert alive is not None and alive.kafka_tls and not alive.kafka
    assert found["postgres"].files["pg_hba.conf"] == "postgres/pg_hba_encrypted.conf"
    assert found["intake"].environment["HEADWATER_TLS_KEY"]
    assert found["silver"].alive == load_services(ROOT)["silver"].alive


def test_the_documents_name_each_port_that_stays_without_encryption() -> None:
    services = services_of(ROOT, ENCRYPTED)
    plain = {n for n, one in services.items() if one.ports and one.encrypted == Encrypted()}
    plain |= {"prometheus", "superset"}  # only as clients
    text = (ROOT / "docs" / "security.md").read_text()
    listed = text.partition("Without TLS, on loopback only: ")[2].partition(".")[0]
    assert {name.strip(" `\n") for name in listed.split(",")} == plain
