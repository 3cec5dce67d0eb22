"""The configuration below connect/ is consistent with itself, with the settings and with its documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.connectors.registration import BRONZE, SOURCE, templates
from app.environment.secret_variables import SECRETS
from app.environment.settings import load
from app.services.service import load_services, read_services
from app.source.tls import PASSWORD_VARIABLE
from spark_streaming.reading.bronze_names import BLOCK_OFFSETS
from spark_streaming.storage.kafka_cluster import KAFKA_VARIABLES
from spark_streaming.storage.store_clients import trino_properties

ROOT = Path(__file__).resolve().parents[4]
CONNECT = ROOT / "connect"
SINK = CONNECT / "bronze-sink/src/main/java/dev/headwater/bronze"
DEFINED = re.compile(r'\.define\(\s*"([^"]+)"')
ALLOWLIST = "config.providers.env.param.allowlist.pattern"
FRAMEWORK = ("connector.class", "tasks.max", "topics.regex", "errors.tolerance")


def properties(path: Path) -> dict[str, str]:
    # A line with only the placeholder `${kafka.worker}` is replaced by several lines.
    lines = [line for line in path.read_text().splitlines() if line and line[0] not in "#$"]
    pairs = [line.split("=", 1) for line in lines]
    assert len({key for key, _ in pairs}) == len(pairs), "a key stands twice"
    return dict(pairs)


def bronze() -> dict[str, str]:
    return templates()[BRONZE]


def sink_settings() -> list[str]:
    return DEFINED.findall((SINK / "BronzeConfig.java").read_text())


def named_variables() -> set[str]:
    values = [value for config in templates().values() for value in config.values()]
    found = {n for value in values for n in re.findall(r"\$\{env:([^}]*)}", value)}
    # Documented where they are set: for a certificate's key in the source's DSN, for a user's own Kafka.
    return found | {PASSWORD_VARIABLE, KAFKA_VARIABLES["password"]}


def test_every_variable_that_a_connector_names_is_one_that_the_worker_gets(tmp_path: Path) -> None:
    [worker] = [s for s in read_services(CONNECT / "service.toml") if s.name == "connect"]
    assert named_variables() <= set(load(tmp_path).environment(worker.secrets))


def test_the_worker_gives_connectors_the_variables_that_they_name_and_no_others() -> None:
    pattern = properties(CONNECT / "worker/worker.properties")[ALLOWLIST]
    assert re.fullmatch(pattern, "HEADWATER_CAPTURE_PASSWORD_ERP")  # of a further source
    pattern = pattern.replace("(_[A-Z0-9_]+)?", "")
    allowed = {
        f"HEADWATER_{name}"
        for name in re.fullmatch(r"HEADWATER_\(([A-Z0-9_|]+)\)", pattern)[1].split("|")  # type: ignore[index]
    }
    assert allowed == named_variables()


def test_every_service_gets_the_variables_that_its_own_files_name(tmp_path: Path) -> None:
    settings = load(tmp_path)
    named = {
        (service.name, variable)
        for service in load_services(ROOT).values()
        for file in service.files.values()
        for text in [(service.folder / file).read_text()]
        for variable in re.findall(
            r"ENV:(HEADWATER_\w+)", text.replace("${store.trino}", trino_properties())
        )
        if variable not in settings.environment(service.secrets)
    }
    assert named == set()


def test_connectors_override_no_other_settings_of_their_clients_than_they_need() -> None:
    worker = properties(CONNECT / "worker/worker.properties")
    assert worker["connector.client.config.override.policy"] == "Allowlist"
    configs = bronze() | templates()[SOURCE]
    needed = {key.partition(".override.")[2] for key in configs if ".override." in key}
    assert set(worker["connector.client.config.override.allowlist"].split(",")) == needed


def test_a_service_gets_only_the_secrets_that_it_declares(tmp_path: Path) -> None:
    settings = load(tmp_path)
    for service in load_services(ROOT).values():
        given = settings.environment(service.secrets)
        withheld = {
            n for kind, names in SECRETS.items() if kind not in service.secrets for n in names
        }
        assert withheld.isdisjoint(given), service.name
    assert "HEADWATER_SOURCE_DSN" not in settings.environment(["capture", "object-store"])


def test_the_sinks_configuration_holds_no_address_and_no_secret_of_its_own() -> None:
    for key, value in bronze().items():
        if key.startswith(("s3.", "kafka.", "bucket")):
            assert re.fullmatch(r"\$\{env:HEADWATER_[A-Z0-9_]+}", value), key


def test_the_sinks_configuration_names_only_settings_that_exist() -> None:
    known = (*sink_settings(), *FRAMEWORK)
    extra = [
        key
        for key in bronze()
        if key not in known and not key.startswith(("consumer.override.", "kafka."))
        if not key.endswith(".converter")
    ]
    assert extra == []


def test_every_setting_of_the_sink_is_documented() -> None:
    readme = (CONNECT / "README.md").read_text()
    assert [name for name in sink_settings() if f"`{name}`" not in readme] == []


def test_the_largest_message_is_the_same_for_broker_worker_and_source() -> None:
    broker = properties(CONNECT / "kafka/server.properties")["message.max.bytes"]
    worker = properties(CONNECT / "worker/worker.properties")["producer.max.request.size"]
    source = templates()[SOURCE]
    assert broker == worker == source["producer.override.max.request.size"]


@pytest.mark.parametrize("name", ["kafka/server.properties", "worker/worker.properties"])
def test_a_server_listens_on_loopback_only(name: str, tmp_path: Path) -> None:
    listeners = properties(CONNECT / name)["listeners"].split(",")
    assert all(re.search(r"://\$\{(bind|host\.\w+)\}:", listener) for listener in listeners)
    settings = load(tmp_path)
    assert (settings.ports.bind, settings.ports.host("kafka_controller")) == (
        "127.0.0.1",
        "127.0.0.1",
    )


def test_the_object_store_listens_on_loopback_and_asks_for_the_generated_keys() -> None:
    store = properties(CONNECT / "s3/s3proxy.properties")
    assert store["s3proxy.endpoint"].startswith("http://${bind}:")
    assert store["s3proxy.authorization"] == "aws-v2-or-v4"
    assert store["s3proxy.credential"] == "${secret.s3_secret_key}"


def test_the_worker_writes_exactly_once_and_hides_secrets() -> None:
    worker = properties(CONNECT / "worker/worker.properties")
    assert worker["exactly.once.source.support"] == "enabled"
    assert worker["config.providers"] == "env"


def test_readers_and_the_sink_divide_a_partition_into_the_same_blocks() -> None:
    [block] = re.findall(r"BLOCK = ([0-9_]+);", (SINK / "SealedObject.java").read_text())
    assert int(block) == BLOCK_OFFSETS
