"""Services with several instances: names, ports, dependencies, and the values of their templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.environment.ports import Ports
from app.environment.profile import Profile
from app.environment.settings import ROOT, load
from app.errors import HeadwaterError
from app.launcher.control import Stack
from app.services.instances import with_instances
from app.services.service import Service, declared_ports, load_services
from app.services.templates import Places, Variables, render
from tests.unit.app.services.test_render import Jars

SEVERAL = {"kafka_brokers": 3, "connect_workers": 2}


def services(**settings: int) -> dict[str, Service]:
    return with_instances(load_services(ROOT), Profile.model_validate(settings))


def rendered(service: Service, text: str, home: Path) -> str:
    settings = load(home, kafka_brokers=3, connect_workers=2)
    lookup = Variables(
        settings=settings,
        artefacts=Jars(),
        ports=declared_ports(services(**SEVERAL)),
        places=Places(home / "run", home / "data"),
        service=service,
        folder=service.folder,
        root=ROOT,
        python=Path("python"),
    )
    return render(text, lookup, where="here")


def test_without_a_setting_every_service_runs_once_as_its_file_describes_it() -> None:
    assert services() == load_services(ROOT)


def test_further_brokers_have_names_and_ports_of_their_own_and_every_worker_waits_for_all() -> None:
    found = services(**SEVERAL)
    assert found["kafka-3"].ports == {
        "kafka-3": 19492, "kafka_controller-3": 19493, "kafka_metrics-3": 14453
    }  # fmt: skip
    assert found["kafka-3"].command == found["kafka"].command
    needed = {name for name in found["connect-2"].depends_on if name.startswith("kafka")}
    assert needed == {"kafka", "kafka-2", "kafka-3"}
    assert list(found).index("kafka-3") < list(found).index("connect")


def test_no_port_is_taken_twice_however_often_each_service_runs() -> None:
    most = {
        name: 9
        for name, field in Profile.model_fields.items()
        if name in _counts(load_services(ROOT))
    }
    ports = declared_ports(services(**most))
    assert len(set(ports.values())) == len(ports)


def _counts(found: dict[str, Service]) -> set[str]:
    return {one.instances for one in found.values() if one.instances is not None}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("kafka-2", "${instance} ${service} ${port.kafka}", "2 kafka-2 19292"),
        ("kafka", "${targets.connect_metrics}", '["127.0.0.1:14052", "127.0.0.1:14252"]'),
        ("kafka-2", "${addresses.kafka}", "127.0.0.1:19092,127.0.0.1:19292,127.0.0.1:19492"),
        ("kafka", "${voters.kafka_controller}", "1@127.0.0.1:19093,2@127.0.0.1:19293,3@127.0.0.1:19493"),
        ("connect-2", "${port.connect} ${port.kafka}", "18283 19092"),
        ("kafka", "${setting.replication_factor} ${setting.min_insync_replicas}", "3 2"),
    ],
)  # fmt: skip
def test_an_instance_listens_on_its_own_ports_and_knows_those_of_all(
    tmp_path: Path, name: str, text: str, value: str
) -> None:
    assert rendered(services(**SEVERAL)[name], text, tmp_path) == value


@pytest.mark.parametrize(
    ("brokers", "copies", "needed"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)]
)
def test_a_topic_is_on_three_brokers_and_one_of_them_may_be_away(
    brokers: int, copies: int, needed: int
) -> None:
    profile = Profile(kafka_brokers=brokers)
    assert (profile.replication_factor, profile.min_insync_replicas) == (copies, needed)


def test_clients_get_the_addresses_of_all_brokers_moved_with_the_offset(tmp_path: Path) -> None:
    settings = load(tmp_path, kafka_brokers=3, port_offset=1000)
    assert settings.kafka.addresses == "127.0.0.1:20092,127.0.0.1:20292,127.0.0.1:20492"


def test_the_port_of_an_instance_can_be_set_by_its_name() -> None:
    assert Ports(Profile(ports={"kafka-2": 5000})).addresses("kafka", 2).endswith(":5000")


def test_who_names_a_service_gets_all_its_instances(tmp_path: Path) -> None:
    assert Stack(load(tmp_path, kafka_brokers=3)).select(["kafka"]) == [
        "kafka",
        "kafka-2",
        "kafka-3",
    ]


def test_a_service_whose_setting_is_zero_is_left_out_and_says_so(tmp_path: Path) -> None:
    assert "trino-worker" not in Stack(load(tmp_path)).services
    with pytest.raises(HeadwaterError, match="it runs where `trino_workers` is at least 1"):
        Stack(load(tmp_path)).select(["trino-worker"])
    two = Stack(load(tmp_path, trino_workers=2))
    assert {"trino-worker", "trino-worker-2"} <= {*two.select([])}
    assert "trino-worker-2" in two.services["tables"].depends_on


def test_the_audit_brings_its_topic_and_the_service_that_writes_it(tmp_path: Path) -> None:
    without, audited = Stack(load(tmp_path)), Stack(load(tmp_path, audit=True))
    assert {*audited.select([])} - {*without.select([])} == {"audit-topic", "streams"}
    assert {"audit-topic", "kafka"} < {*audited.select(["trino"])}
    assert "kafka" not in without.select(["trino"])


def test_silver_runs_on_the_cluster_of_this_machine_where_there_is_one(tmp_path: Path) -> None:
    assert load(tmp_path).environment()["HEADWATER_SPARK_MASTER"] == "local[2]"
    found = Stack(load(tmp_path, spark_workers=2, port_offset=1000))
    assert found.settings.environment()["HEADWATER_SPARK_MASTER"] == "spark://127.0.0.1:15060"
    assert {"spark-master", "spark-worker", "spark-worker-2"} <= {*found.select(["silver"])}


def test_another_number_of_brokers_is_refused_where_there_is_data(tmp_path: Path) -> None:
    load(tmp_path).save()
    (tmp_path / "data" / "kafka").mkdir(parents=True)
    stack = Stack(load(tmp_path, kafka_brokers=3))
    with pytest.raises(HeadwaterError, match="is that of 1 Kafka broker"):
        stack._refuse_other_brokers()
