"""Kafka and Connect as Strimzi's resources, from the properties and the connectors' files."""

from __future__ import annotations

from typing import Any

from app.connectors.registration import BRONZE, SOURCE, templates
from app.deploy.kubernetes.cluster_settings import ENVIRONMENT, VARIABLES_SECRET, Pods
from app.deploy.kubernetes.workloads import Manifest, labels
from app.environment.secret_variables import SECRETS
from app.environment.settings import ROOT

API = "kafka.strimzi.io/v1"
METRICS = "headwater-jmx"
# Settings that Strimzi sets itself or refuses: the places of data, identities, and a broker's session with its controller.
BROKER_OWN = (
    "process.roles", "node.id", "broker.", "controller.", "listeners", "advertised.", "inter.broker.", "log.dirs",
)  # fmt: skip
# A small broker's: of one copy, of one machine's threads, of a flush that three copies make needless.
BROKER_SMALL = (
    "num.network.threads", "num.io.threads", "log.cleaner.", "queued.max.requests", "log.flush.",
    "offsets.topic.num.partitions", "transaction.state.log.num.partitions",
    "share.coordinator.state.topic.num.partitions",
)  # fmt: skip
WORKER_OWN = (
    "bootstrap.servers", "group.id", "listeners", "rest.", "plugin.path",
    "config.storage.topic", "offset.storage.topic", "status.storage.topic",
)  # fmt: skip
MIN_ISR = 2
REPLICAS_MAX = 3
# What a connector's configuration may name, beside the store's: `param.allowlist.pattern` of the worker.
CONNECT_SECRETS = ("capture", "object-store")


def manifests(pods: Pods) -> list[Manifest]:
    """Return metrics, node pool, Kafka and Connect."""
    return [_metrics(), _pool(pods), _kafka(pods), _connect(pods)]


def connectors(pods: Pods) -> list[Manifest]:
    """Return both connectors as resources, for clusters in which an operator manages connectors.

    The source's has neither the database's address nor its tables, which `connectors` finds in the
    source and registers; the reader completes it.
    """
    return [_connector(pods, name, config) for name, config in templates().items()]


def broker_config(pods: Pods) -> dict[str, str]:
    """The broker's properties that hold on a cluster; copies as many as brokers, three at most."""
    copies = min(pods.cluster.kafka.brokers, REPLICAS_MAX)
    in_sync = min(MIN_ISR, copies)
    found = _properties(pods, "kafka", "server.properties")
    kept = {k: v for k, v in found.items() if not k.startswith((*BROKER_OWN, *BROKER_SMALL))}
    for key in kept:
        if key.endswith("replication.factor"):
            kept[key] = str(copies)
        elif key.endswith(("min.isr", "min.insync.replicas")):
            kept[key] = str(in_sync)
    return kept


def worker_config(pods: Pods) -> dict[str, str]:
    """The worker's properties, except those that Strimzi sets."""
    copies = min(pods.cluster.kafka.brokers, REPLICAS_MAX)
    found = _properties(pods, "connect", "worker.properties")
    kept = {key: value for key, value in found.items() if not key.startswith(WORKER_OWN)}
    return {
        key: str(copies) if key.endswith("replication.factor") else value
        for key, value in kept.items()
    } | {
        f"{kind}.storage.replication.factor": str(copies) for kind in ("config", "offset", "status")
    }


def _kafka(pods: Pods) -> Manifest:
    port = pods.number(pods.services["kafka"], "kafka")
    return {
        **_named("Kafka", pods.cluster.cluster),
        "spec": {
            "kafka": {
                "listeners": [{"name": "plain", "port": port, "type": "internal", "tls": False}],
                "config": broker_config(pods),
                "metricsConfig": _jmx("kafka.yml"),
                "template": _hardened("kafkaContainer"),
            },
            "entityOperator": {},
        },
    }


def _pool(pods: Pods) -> Manifest:
    own = pods.cluster.kafka
    found = _named("KafkaNodePool", f"{pods.cluster.cluster}-brokers")
    found["metadata"]["labels"]["strimzi.io/cluster"] = pods.cluster.cluster
    return {
        **found,
        "spec": {
            "replicas": own.brokers,
            "roles": ["controller", "broker"],
            "storage": {
                "type": "persistent-claim",
                "size": own.storage,
                "deleteClaim": False,
            },
            "resources": _resources(own.cpu, own.memory_mb),
            "jvmOptions": _heap(own.memory_mb),
        },
    }


def _connect(pods: Pods) -> Manifest:
    own, cluster = pods.cluster.connect, pods.cluster.cluster
    port = pods.number(pods.services["kafka"], "kafka")
    names = _properties(pods, "connect", "worker.properties")
    # References to the secrets that the worker may read; it needs no other secrets.
    env: list[Manifest] = [
        {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": VARIABLES_SECRET, "key": name}},
        }
        for kind in CONNECT_SECRETS
        for name in SECRETS[kind]
        if name != "HEADWATER_CAPTURE_DSN"
    ]
    for name in ("KAFKA", "TOPIC_PREFIX", "TOPIC_PARTITIONS", "BRONZE_BUCKET", "S3_ENDPOINT", "S3_REGION"):  # fmt: skip
        key = f"HEADWATER_{name}"
        env.append(
            {"name": key, "valueFrom": {"configMapKeyRef": {"name": ENVIRONMENT, "key": key}}}
        )
    # Debezium's texts of times follow the JVM's zone.
    env.append({"name": "TZ", "value": "UTC"})
    template = _hardened("connectContainer")
    template["connectContainer"]["env"] = env
    return {
        **_named("KafkaConnect", cluster),
        "spec": {
            "image": pods.cluster.images["connect"],
            "replicas": own.workers,
            "bootstrapServers": f"{cluster}-kafka-bootstrap:{port}",
            "groupId": names["group.id"],
            "configStorageTopic": names["config.storage.topic"],
            "offsetStorageTopic": names["offset.storage.topic"],
            "statusStorageTopic": names["status.storage.topic"],
            "config": worker_config(pods),
            "resources": _resources(own.cpu, own.memory_mb),
            "jvmOptions": _heap(own.memory_mb),
            "metricsConfig": _jmx("connect.yml"),
            "template": template,
        },
    }


def _connector(pods: Pods, name: str, config: dict[str, str]) -> Manifest:
    left = {k: v for k, v in config.items() if k not in ("connector.class", "tasks.max", "name")}
    found = _named("KafkaConnector", {SOURCE: "source", BRONZE: "bronze"}[name])
    found["metadata"]["labels"]["strimzi.io/cluster"] = pods.cluster.cluster
    return {
        **found,
        "spec": {
            "class": config["connector.class"],
            "tasksMax": int(config["tasks.max"]),
            "config": left,
        },
    }


def _metrics() -> Manifest:
    """The metrics of both JVMs' agents, as in a native stack."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": METRICS, "labels": labels(METRICS)},
        "data": {
            "kafka.yml": (ROOT / "connect" / "kafka" / "jmx.yml").read_text(),
            "connect.yml": (ROOT / "connect" / "worker" / "jmx.yml").read_text(),
        },
    }


def _properties(pods: Pods, service: str, file: str) -> dict[str, str]:
    """A properties file of a service, rendered for this cluster."""
    described = pods.services[service]
    text = (described.folder / described.files[file]).read_text()
    lines = (line.strip() for line in pods.rendered(described, text).splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _named(kind: str, name: str) -> Manifest:
    # No labels of ours: the operator hands them on to its pods, and our policies would choose those.
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "labels": {}}}


def _resources(cpu: str, memory_mb: int) -> Manifest:
    return {
        "requests": {"cpu": cpu, "memory": f"{memory_mb}Mi"},
        "limits": {"memory": f"{memory_mb}Mi"},
    }


def _heap(memory_mb: int) -> dict[str, Any]:
    """Half of the memory: the rest is for the kernel's cache of the log, and the JVM's memory outside of the heap."""
    return {"-Xms": f"{memory_mb // 4}m", "-Xmx": f"{memory_mb // 2}m"}


def _jmx(key: str) -> Manifest:
    reference = {"configMapKeyRef": {"name": METRICS, "key": key}}
    return {"type": "jmxPrometheusExporter", "valueFrom": reference}


def _hardened(container: str) -> Manifest:
    """Pods and containers without rights; Strimzi's images write outside of their volumes."""
    return {
        "pod": {
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            }
        },
        container: {
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
        },
    }
