"""Lists the allowed connections; all others are refused."""

from __future__ import annotations

from app.deploy.kubernetes.cluster_settings import Pods
from app.deploy.kubernetes.workloads import WORKLOADS, Manifest, labels

KAFKA, CONNECT, TRINO = "kafka", "connect", "trino"
READERS = ("headwater-deltalake-reader", "headwater-java-reader", "headwater-spark-reader")
# Program → the targets of its connections, in the cluster and outside (PostgreSQL, the store).
TALKS_TO: dict[str, tuple[str, ...]] = {
    "silver": (KAFKA,),
    "streams": (KAFKA,),
    "capture": (KAFKA, CONNECT),
    "tables": (TRINO,),
    "metrics": (KAFKA, CONNECT, TRINO, "silver"),
    "app": (KAFKA, CONNECT, TRINO, "silver", "metrics"),
    "intake": (KAFKA,),
    "verifier": (KAFKA,),
    **dict.fromkeys(READERS, ("intake",)),
}
REACHES_OUTSIDE = tuple(name for name in TALKS_TO if name != "intake")
# Strimzi's labels of the pods that it makes; Trino's chart's.
KAFKA_PODS = {"strimzi.io/kind": "Kafka"}
CONNECT_PODS = {"strimzi.io/kind": "KafkaConnect"}
TRINO_PODS = {"app.kubernetes.io/name": "trino"}
DNS = 53


def manifests(pods: Pods) -> list[Manifest]:
    """Return names for the programs of operators and charts, and the policies."""
    found = [*_names(pods), _refuse_all(), _dns()]
    found += [_policy(pods, name) for name in TALKS_TO]
    return [*found, _connect(pods), *_budgets()]


def _names(pods: Pods) -> list[Manifest]:
    """The names of compose for the pods that Strimzi makes, with their metrics beside."""
    cluster = pods.cluster.cluster
    found: list[Manifest] = []
    for name, kind in ((KAFKA, KAFKA_PODS), (CONNECT, CONNECT_PODS)):
        service = pods.services[name]
        numbers = {pods.number(service, port) for port in (name, f"{name}_metrics")}
        found.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "labels": labels(name)},
                "spec": {
                    "selector": {"strimzi.io/cluster": cluster, **kind},
                    "ports": [
                        {"name": f"port-{number}", "port": number, "targetPort": number}
                        for number in sorted(numbers)
                    ],
                },
            }
        )
    return found


def _refuse_all() -> Manifest:
    """Our own pods, and the readers': Strimzi makes policies for its own."""
    ours = {"key": "app.kubernetes.io/part-of", "operator": "In", "values": ["headwater"]}
    return _network_policy(
        "headwater-refuse",
        {"matchExpressions": [ours]},
        {"policyTypes": ["Ingress", "Egress"]},
    )


def _dns() -> Manifest:
    return _network_policy(
        "headwater-names",
        {"matchLabels": {"app.kubernetes.io/part-of": "headwater"}},
        {
            "policyTypes": ["Egress"],
            "egress": [
                {"ports": [{"protocol": kind, "port": DNS} for kind in ("UDP", "TCP")]},
            ],
        },
    )


def _policy(pods: Pods, name: str) -> Manifest:
    """The allowed connections of one program, and those to it."""
    egress = [
        {"to": [{"podSelector": {"matchLabels": _pods_of(to)}}], "ports": _ports(pods, to)}
        for to in TALKS_TO[name]
    ]
    if name in REACHES_OUTSIDE:
        egress += [
            {
                "to": [{"ipBlock": {"cidr": one.cidr}}],
                "ports": [{"protocol": "TCP", "port": number} for number in one.ports],
            }
            for one in pods.cluster.outside
        ]
    ingress = []
    if name in pods.services and pods.services[name].ports:
        callers = [
            {"podSelector": {"matchLabels": _pods_of(caller)}}
            for caller, opened in TALKS_TO.items()
            if name in opened
        ]
        ingress = [
            {
                "from": [_in(pods.cluster.monitoring_namespace), *callers],
                "ports": _ports(pods, name),
            }
        ]
    spec: Manifest = {"policyTypes": ["Ingress", "Egress"], "ingress": ingress, "egress": egress}
    return _network_policy(name, {"matchLabels": _pods_of(name)}, spec)


def _in(namespace: str) -> Manifest:
    """Any pod of a namespace."""
    labelled = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return {"namespaceSelector": labelled}


def _connect(pods: Pods) -> Manifest:
    """Clients of Connect's REST interface can read everything that its connectors can, because it has no log-in
    here."""
    callers = [name for name, opened in TALKS_TO.items() if CONNECT in opened]
    operator = pods.cluster.strimzi_namespace
    monitoring = pods.cluster.monitoring_namespace
    rest = pods.number(pods.services[CONNECT], "connect")
    metrics = pods.number(pods.services[CONNECT], "connect_metrics")

    return _network_policy(
        "headwater-connect-callers",
        {"matchLabels": CONNECT_PODS},
        {
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [
                        *({"podSelector": {"matchLabels": _pods_of(name)}} for name in callers),
                        {"podSelector": {"matchLabels": CONNECT_PODS}},
                        _in(operator),
                    ],
                    "ports": [{"protocol": "TCP", "port": rest}],
                },
                {
                    "from": [
                        *({"podSelector": {"matchLabels": _pods_of(name)}} for name in callers),
                        _in(monitoring),
                    ],
                    "ports": [{"protocol": "TCP", "port": metrics}],
                },
            ],
        },
    )


def _budgets() -> list[Manifest]:
    """Draining a node must not remove all pods of a workload that has several.

    A workload with one pod gets no budget, which would forbid draining its node.
    """
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": workload.service, "labels": labels(workload.service)},
            "spec": {
                "maxUnavailable": 1,
                "selector": {"matchLabels": _pods_of(workload.service)},
            },
        }
        for workload in WORKLOADS
        if workload.replicas > 1
    ]


def _pods_of(name: str) -> dict[str, str]:
    operators = {KAFKA: KAFKA_PODS, CONNECT: CONNECT_PODS, TRINO: TRINO_PODS}
    return operators.get(name, {"app.kubernetes.io/name": name})


def _ports(pods: Pods, name: str) -> list[Manifest]:
    service = pods.services[name]
    used = [port for port in service.ports if port != "kafka_controller"]
    numbers = sorted({pods.number(service, port) for port in used})
    return [{"protocol": "TCP", "port": number} for number in numbers]


def _network_policy(name: str, chosen: Manifest, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": labels(name)},
        "spec": {"podSelector": chosen, **spec},
    }
