"""All manifests of a cluster as files: a Kustomize base, a component, and values for charts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from app.deploy.kubernetes import charts, monitors, network, strimzi, workloads
from app.deploy.kubernetes.cluster_settings import Pods
from app.deploy.kubernetes.cluster_values import Cluster
from app.deploy.kubernetes.workloads import Manifest
from app.environment.settings import ROOT
from app.metrics.monitoring.write_files import dump

READERS = ROOT / "app" / "readers" / "kubernetes"
COMPONENT = "connector-resources"
_HEADER = "# Written by `python -m app.deploy kubernetes`; change the files that it reads.\n"


def files(cluster: Cluster) -> dict[str, str]:
    """Return path → text of everything that `kubectl apply --kustomize` and the charts need."""
    pods = Pods(cluster)
    made = {
        "workloads.yaml": workloads.manifests(pods),
        "network.yaml": network.manifests(pods),
        "kafka.yaml": strimzi.manifests(pods),
        "monitoring.yaml": monitors.manifests(pods),
        "readers.yaml": readers(pods),
    }
    found = {name: _text(documents) for name, documents in made.items()}
    found["namespace.yaml"] = _text([_namespace(cluster)])
    found["kustomization.yaml"] = _HEADER + dump(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": cluster.namespace,
            "resources": sorted(found),
        }
    )
    found |= {
        f"{COMPONENT}/kustomization.yaml": _HEADER + dump(_component(cluster)),
        f"{COMPONENT}/connectors.yaml": _text(strimzi.connectors(pods)),
        "charts/trino.yaml": _HEADER + dump(charts.trino(pods)),
        "charts/superset.yaml": _HEADER + dump(charts.superset()),
    }
    return found


def readers(pods: Pods) -> list[Manifest]:
    """The readers' pods as app/readers has them, with this cluster's images and store.

    Their runs and logs go to the intake, and from there into tables of silver.
    """
    found = [
        document
        for path in sorted(READERS.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]
    environment = pods.plain_environment()
    for one in found:
        if one["kind"] == "ConfigMap":
            one["data"] = {name: environment[name] for name in one["data"] if name in environment}
            one["data"]["HEADWATER_INTAKE_URL"] = pods.settings.intake_url
        for container in _containers(one):
            container["image"] = pods.cluster.images[container["name"]]
    return found


def write(cluster: Cluster, folder: Path) -> list[Path]:
    """Write all files below a folder. Returns: their paths."""
    found = []
    for name, text in files(cluster).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        found.append(path)
    return found


def _containers(document: Manifest) -> list[Manifest]:
    if document["kind"] != "CronJob":
        return []
    pod = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return list(pod["containers"])


def _namespace(cluster: Cluster) -> Manifest:
    # Our pods comply with `restricted`; this was not tested for the pods of operators and charts.
    level = "pod-security.kubernetes.io"
    enforced = {f"{level}/enforce": "baseline", f"{level}/warn": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": cluster.namespace, "labels": enforced},
    }


def _component(cluster: Cluster) -> Manifest:
    mark = {"strimzi.io/use-connector-resources": "true"}
    patch: dict[str, Any] = {
        "apiVersion": strimzi.API,
        "kind": "KafkaConnect",
        "metadata": {"name": cluster.cluster, "annotations": mark},
    }
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "resources": ["connectors.yaml"],
        "patches": [{"patch": yaml.safe_dump(patch, sort_keys=False)}],
    }


def _text(documents: list[Manifest]) -> str:
    return _HEADER + "".join(f"---\n{dump(one)}" for one in documents)
