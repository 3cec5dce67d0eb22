"""The manifests are valid by Kubernetes' own schemas, have least privilege, and agree with their sources."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import tomli
import tomli_w
import yaml

from app.deploy.__main__ import main
from app.deploy.kubernetes import network, strimzi, workloads
from app.deploy.kubernetes.cluster_settings import VARIABLES_SECRET, Pods, write_home
from app.deploy.kubernetes.cluster_values import CLUSTER, Cluster, read_cluster
from app.deploy.kubernetes.manifests import COMPONENT, files, write
from app.environment.secret_variables import SECRETS
from app.environment.settings import ROOT
from app.environment.toml_files import SettingsError
from app.errors import HeadwaterError

OLDEST, NEWEST = "1.30", "1.37"
OPERATORS = ("kafka.strimzi.io/v1", "monitoring.coreos.com/v1")
CREATED = read_cluster()
FILES = files(CREATED)
ALL = [
    document
    for name, text in FILES.items()
    if name.count("/") == 0 and name != "kustomization.yaml"
    for document in yaml.safe_load_all(text)
]
OWN = [one for one in ALL if one["apiVersion"] not in OPERATORS]
CONTROLLERS = [one for one in OWN if one["kind"] in ("StatefulSet", "Deployment", "CronJob")]
PODS = Pods(CREATED)


def pod_of(one: dict[str, Any]) -> dict[str, Any]:
    spec = one["spec"]
    spec = spec["jobTemplate"]["spec"] if one["kind"] == "CronJob" else spec
    return dict(spec["template"]["spec"])


def containers_of(one: dict[str, Any]) -> list[dict[str, Any]]:
    pod = pod_of(one)
    return [*pod.get("initContainers", []), *pod["containers"]]


def named(one: dict[str, Any]) -> str:
    return f"{one['kind']}-{one['metadata']['name']}"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("one", OWN, ids=named)
def test_every_manifest_keeps_to_kubernetes_own_schema(one: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "typo"),
    [
        ("StatefulSet", ("spec", "template", "spec", "securityContext"), "runAsNonroot"),
        ("StatefulSet", ("spec", "template", "spec", "containers", 0), "readinessprobe"),
        ("NetworkPolicy", ("spec",), "egres"),
        ("PodDisruptionBudget", ("spec",), "maxUnavailabel"),
    ],
)
def test_a_key_with_a_typo_is_refused(kind: str, path: tuple[Any, ...], typo: str) -> None:
    one = copy.deepcopy(next(one for one in OWN if one["kind"] == kind))
    place = one
    for key in path:
        place = place[key]
    place[typo] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match=typo):
        kubernetes_validate.validate(one, NEWEST, strict=True)


def test_names_are_unique() -> None:
    found = [(one["apiVersion"], named(one)) for one in ALL]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("one", CONTROLLERS, ids=named)
def test_no_pod_has_a_right_that_it_does_not_need(one: dict[str, Any]) -> None:
    pod = pod_of(one)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers_of(one):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= set(container["resources"])
        assert "memory" in container["resources"]["limits"]


def test_secrets_are_named_and_never_held() -> None:
    hidden = {variable for names in SECRETS.values() for variable in names}
    hidden |= {"HEADWATER_PAGE_TOKEN", "HEADWATER_INTAKE_TOKEN"}
    assert [one for one in ALL if one["kind"] == "Secret"] == []
    for one in CONTROLLERS:
        for container in containers_of(one):
            for variable in container["env"]:
                if variable["name"] in hidden:
                    assert set(variable) == {"name", "valueFrom"}, variable["name"]
    text = "".join(FILES.values())
    assert "secret-" not in text.replace("secret-key", "")  # how templates name secrets
    plain = next(one for one in ALL if one["metadata"]["name"] == "headwater-environment")["data"]
    assert hidden & set(plain) == set()


@pytest.mark.parametrize("workload", workloads.WORKLOADS, ids=lambda one: one.service)
def test_a_pod_gets_the_secrets_that_its_service_declares(workload: workloads.Workload) -> None:
    service = PODS.services[workload.service]
    container = workloads.container(PODS, workload, service)
    given = {one["name"] for one in container["env"] if "valueFrom" in one}
    declared = {name for kind in service.secrets for name in SECRETS[kind]}
    own = {name for name, text in service.environment.items() if text.startswith("${secret.")}
    assert given == declared | own
    references = [
        one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one
    ]
    assert {one["name"] for one in references} <= {VARIABLES_SECRET}


@pytest.mark.parametrize("workload", workloads.WORKLOADS, ids=lambda one: one.service)
def test_a_pod_runs_what_service_toml_says_with_composes_memory(
    workload: workloads.Workload,
) -> None:
    service = PODS.services[workload.service]
    container = workloads.container(PODS, workload, service)
    assert container["command"][0] == "python"
    assert container["command"][1:3] == service.command[1:3]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    limit = CREATED.memory_mb.get(workload.service)
    expected = f"{limit}Mi" if limit else compose[workload.service]["mem_limit"].replace("m", "Mi")
    assert container["resources"]["limits"]["memory"] == expected
    assert {one["containerPort"] for one in container.get("ports", [])} == {
        PODS.number(service, port) for port in service.ports
    }


def test_what_writes_tables_or_moves_the_slot_is_never_there_twice() -> None:
    kinds = {one.service: (one.kind, one.replicas) for one in workloads.WORKLOADS}
    for writer in ("silver", "streams", "capture", "tables", "verifier"):
        assert kinds[writer] == (workloads.ONE_AT_MOST, 1)


def test_every_pod_has_a_policy_and_what_it_names_is_there() -> None:
    policies = {one["metadata"]["name"] for one in OWN if one["kind"] == "NetworkPolicy"}
    pods = {
        pod["metadata"]["labels"]["app.kubernetes.io/name"]
        for one in CONTROLLERS
        for pod in [
            one["spec"]["jobTemplate"]["spec"]["template"]
            if one["kind"] == "CronJob"
            else one["spec"]["template"]
        ]
    }
    assert pods == set(network.TALKS_TO)
    assert pods < policies
    for opened in network.TALKS_TO.values():
        assert set(opened) <= set(PODS.services)


def test_kafka_has_copies_where_the_native_broker_has_one() -> None:
    config = strimzi.broker_config(PODS)
    assert {config[key] for key in config if key.endswith("replication.factor")} == {"3"}
    assert {config[key] for key in config if key.endswith(("min.isr", "insync.replicas"))} == {"2"}
    assert config["log.retention.hours"] == "72"
    single = CREATED.model_copy(update={"kafka": CREATED.kafka.model_copy(update={"brokers": 1})})
    assert strimzi.broker_config(Pods(single))["min.insync.replicas"] == "1"


def test_connectors_have_the_configuration_that_is_registered_elsewhere() -> None:
    found = {one["metadata"]["name"]: one["spec"] for one in strimzi.connectors(PODS)}
    assert found["bronze"]["class"] == "dev.headwater.bronze.BronzeSinkConnector"
    assert found["source"]["config"]["exactly.once.support"] == "required"
    assert found["bronze"]["config"]["s3.secret.key"] == "${env:HEADWATER_S3_SECRET_KEY}"


def test_rules_and_dashboards_are_grafanas_own() -> None:
    [rule] = [one for one in ALL if one["kind"] == "PrometheusRule"]
    generated = yaml.safe_load((ROOT / "grafana" / "generated" / "rules.yml").read_text())

    def without_page(groups: list[Any]) -> str:
        rules = [one for group in groups for one in group["rules"]]
        return str([{**one, "annotations": one["annotations"]["summary"]} for one in rules])

    assert without_page(rule["spec"]["groups"]) == without_page(generated["groups"])
    boards = [one for one in ALL if one["metadata"].get("labels", {}).get("grafana_dashboard")]
    expected = sorted((ROOT / "grafana" / "generated" / "dashboards").glob("*.json"))
    assert [next(iter(one["data"].values())) for one in boards] == [
        path.read_text() for path in expected
    ]


def test_each_job_of_prometheus_is_asked_under_its_name() -> None:
    jobs = yaml.safe_load((ROOT / "grafana" / "prometheus.yml").read_text())["scrape_configs"]
    monitors = [one for one in ALL if one["kind"] == "ServiceMonitor"]
    names = [
        rule["replacement"]
        for one in monitors
        for rule in one["spec"]["endpoints"][0]["relabelings"]
    ]
    assert names == [job["job_name"] for job in jobs if job["job_name"] != "prometheus"]
    services = {
        one["metadata"]["name"]: {port["name"] for port in one["spec"].get("ports", [])}
        for one in OWN
        if one["kind"] == "Service"
    }
    for one in monitors:
        asked = one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        if asked != "trino":  # its chart's own
            assert one["spec"]["endpoints"][0]["port"] in services[asked]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("component", [False, True])
def test_kustomize_takes_the_folder(tmp_path: Path, component: bool) -> None:
    write(CREATED, tmp_path / "base")
    overlay = {"resources": ["base"], "components": [f"base/{COMPONENT}"] if component else []}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    ended = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    built = list(yaml.safe_load_all(ended.stdout))
    assert len(built) == len(ALL) + (2 if component else 0)
    assert {one["metadata"].get("namespace", "headwater") for one in built} == {"headwater"}
    [connect] = [one for one in built if one["kind"] == "KafkaConnect"]
    mark = connect["metadata"].get("annotations", {}).get("strimzi.io/use-connector-resources")
    assert mark == ("true" if component else None)


def test_the_home_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    given = {
        "source_dsn": "postgresql://owner:topsecret@db.example.com/shop",
        "capture_dsn": None,
        "s3_access_key": "AK",
        "s3_secret_key": "SK",
    }
    commands = write_home(CREATED, tmp_path, given)
    assert len(commands) == 2
    assert "topsecret" not in " ".join(commands)
    for name in ("settings.toml", "secrets.json", "variables.env"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    lines = (tmp_path / "variables.env").read_text().splitlines()
    variables = {line.partition("=")[0] for line in lines}
    needed = {
        one["valueFrom"]["secretKeyRef"]["key"]
        for controller in CONTROLLERS
        for container in containers_of(controller)
        for one in container["env"]
        if one.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == VARIABLES_SECRET
    }
    assert needed <= variables
    kept = tomli.loads((tmp_path / "settings.toml").read_text())
    assert kept["network"] == "containers"
    with pytest.raises(HeadwaterError, match="secrets are missing"):
        write_home(CREATED, tmp_path, {**given, "s3_secret_key": None})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"s3_secret_key": "x"}, "HEADWATER_S3_SECRET_KEY"),
        ({"network": "loopback"}, "profile.network"),
        ({"colour": 1}, "profile.colour"),
        ({"s3_endpoint": ""}, "s3_endpoint` is missing"),
    ],
)
def test_a_profile_key_that_has_no_place_here_is_named(change: dict[str, Any], said: str) -> None:
    changed = CREATED.model_copy(update={"profile": {**CREATED.profile, **change}})
    with pytest.raises(SettingsError, match=said):
        Pods(changed)


def test_a_users_file_is_rendered_and_an_unknown_key_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tomli.loads(CLUSTER.read_text())
    mine = tmp_path / "mine.toml"
    mine.write_text(tomli_w.dumps({**values, "namespace": "lake"}))
    assert main(["kubernetes", "--values", str(mine), str(tmp_path / "out")]) == 0
    assert 'namespace: "lake"' in (tmp_path / "out" / "kustomization.yaml").read_text()
    mine.write_text(tomli_w.dumps({**values, "replicas": 3}))
    with pytest.raises(SettingsError, match="replicas"):
        Cluster.model_validate(values) and read_cluster(mine)
    capsys.readouterr()
