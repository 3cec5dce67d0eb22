"""Our own programs as Kubernetes runs them: one description each, from its service.toml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

from app.deploy.kubernetes.cluster_settings import (
    ENVIRONMENT,
    HOME,
    HOME_SECRET,
    VARIABLES_SECRET,
    Pods,
)
from app.environment.settings import ROOT
from app.services.service import Service

Manifest = dict[str, Any]
USER = 1000  # of our images
PART_OF = "headwater"
SCRATCH, SCRATCH_AND_LOGS = "1Gi", "2Gi"
ONE_AT_MOST = "StatefulSet"


@dataclass(frozen=True)
class Workload:
    """How a service runs as pods.

    kind: a StatefulSet of one never has two pods, as needed by programs that write tables or move the replication
    slot; a Deployment starts the next pod before the last has ended.
    keeps: the folder that stays with the pod. home: whether it reads the home's files.
    first: the one-shot that runs before it, in the same pod.
    """

    service: str
    image: str
    kind: str = "Deployment"
    replicas: int = 1
    keeps: str = ""
    home: bool = True
    first: str = ""


WORKLOADS = (
    # Started without `home`: the streaming job knows its variables alone, and reads no file of a home.
    Workload("silver", "silver", ONE_AT_MOST, keeps="/var/lib/headwater", home=False),
    Workload("streams", "silver", ONE_AT_MOST, home=False),
    Workload("capture", "app", ONE_AT_MOST, keeps=f"{HOME}/data", first="connectors"),
    Workload("tables", "app", ONE_AT_MOST),
    Workload("metrics", "app"),
    Workload("app", "app"),
    Workload("intake", "app", replicas=2),
    Workload("verifier", "app", ONE_AT_MOST, keeps=f"{HOME}/verify"),
)


def manifests(pods: Pods) -> list[Manifest]:
    """Return account, pods and service of each workload."""
    found: list[Manifest] = [environment(pods)]
    for workload in WORKLOADS:
        service = pods.services[workload.service]
        found += [account(service), controller(pods, workload)]
        if service.ports or workload.kind == ONE_AT_MOST:
            found.append(in_front(pods, service))
    return found


def environment(pods: Pods) -> Manifest:
    """The variables of all pods, none of them secret."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": ENVIRONMENT, "labels": labels(ENVIRONMENT)},
        "data": pods.plain_environment(),
    }


def account(service: Service) -> Manifest:
    """An account that may do nothing: our programs never ask the API server."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": service.name, "labels": labels(service.name)},
        "automountServiceAccountToken": False,
    }


def controller(pods: Pods, workload: Workload) -> Manifest:
    """The Deployment or StatefulSet."""
    service = pods.services[workload.service]
    spec: Manifest = {
        "replicas": workload.replicas,
        "selector": {"matchLabels": {"app.kubernetes.io/name": service.name}},
        "template": {
            "metadata": {"labels": labels(service.name)},
            "spec": pod(pods, workload),
        },
    }
    if workload.kind == ONE_AT_MOST:
        spec["serviceName"] = service.name
        if workload.keeps:
            spec["volumeClaimTemplates"] = [claim(pods.cluster.storage[service.name])]
            # A claim outlives its pods, and must be deleted separately.
            spec["persistentVolumeClaimRetentionPolicy"] = {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            }
    return {
        "apiVersion": "apps/v1",
        "kind": workload.kind,
        "metadata": {"name": service.name, "labels": labels(service.name)},
        "spec": spec,
    }


def pod(pods: Pods, workload: Workload) -> Manifest:
    """A pod that can write only to its scratch folder and its volume."""
    service = pods.services[workload.service]
    # Secrets and volumes appear as files of this group.
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": SCRATCH}}]
    if workload.home:
        files = {"secretName": HOME_SECRET, "defaultMode": 0o440}
        volumes.append({"name": "home", "secret": files})
    spec: Manifest = {
        "serviceAccountName": service.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # variables that nobody declared
        "terminationGracePeriodSeconds": round(service.stop.timeout_s) + 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(pods, workload, service)],
        "volumes": volumes,
    }
    if workload.first:
        once = container(pods, workload, pods.services[workload.first])
        spec["initContainers"] = [once]
    if workload.replicas > 1:
        spread = {"matchLabels": {"app.kubernetes.io/name": service.name}}
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": spread,
            }
        ]
    return spec


def container(pods: Pods, workload: Workload, service: Service) -> Manifest:
    """One container, by the service's own description."""
    found: Manifest = {
        "name": service.name,
        "image": pods.cluster.images[workload.image],
        "imagePullPolicy": "IfNotPresent",
        "command": pods.command(service),
        "workingDir": "/tmp",
        "envFrom": [{"configMapRef": {"name": ENVIRONMENT}}],
        "env": variables(pods, service),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": resources(pods, service, pods.cluster.cpu[workload.service]),
        "volumeMounts": mounts(workload),
    }
    if service.ports:
        found["ports"] = [
            {"name": port_name(port), "containerPort": pods.number(service, port)}
            for port in service.ports
        ]
    probe = readiness(pods, service)
    if probe:
        found["readinessProbe"] = probe
    return found


def variables(pods: Pods, service: Service) -> list[Manifest]:
    """A service's own variables; secrets by reference, those that it declares."""
    fixed = {"HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC"}
    fixed["HEADWATER_SERVICE"] = service.name
    plain = {**fixed, **pods.own_environment(service)}
    return [{"name": name, "value": value} for name, value in plain.items()] + [
        {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": VARIABLES_SECRET, "key": name}},
        }
        for name in pods.secret_variables(service)
    ]


def resources(pods: Pods, service: Service, cpu: str) -> Manifest:
    """Memory: requested as measured (service.toml), limited like the container in compose."""
    most = pods.cluster.memory_mb.get(service.name, compose_limits()[service.name])
    return {
        "requests": {"cpu": cpu, "memory": f"{min(service.memory_mb, most)}Mi"},
        "limits": {"memory": f"{most}Mi", "ephemeral-storage": SCRATCH_AND_LOGS},
    }


def mounts(workload: Workload) -> list[Manifest]:
    """Scratch space, the home's two files, the kept folder."""
    found: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    if workload.home:
        # File by file, because the folder stays the image's and contains the kept data.
        for file in ("settings.toml", "secrets.json"):
            path = f"{HOME}/{file}"
            found.append({"name": "home", "mountPath": path, "subPath": file, "readOnly": True})
    if workload.keeps:
        found.append({"name": "kept", "mountPath": workload.keeps})
    return found


def readiness(pods: Pods, service: Service) -> Manifest:
    """The service's own question by HTTP; one that is ready by a line of its log has none."""
    if service.ready is None or service.ready.http is None:
        return {}
    url = urlsplit(pods.rendered(service, service.ready.http))
    # The page answers only to names of its own.
    host = [{"name": "Host", "value": f"{url.hostname}:{url.port}"}]
    return {
        "httpGet": {"path": url.path or "/", "port": url.port, "httpHeaders": host},
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 6,
    }


def in_front(pods: Pods, service: Service) -> Manifest:
    """The name under which others reach a service; a StatefulSet needs one in any case."""
    spec: Manifest = {
        "selector": {"app.kubernetes.io/name": service.name},
        "clusterIP": "None",
    }
    if service.ports:
        del spec["clusterIP"]
        spec["ports"] = [
            {
                "name": port_name(port),
                "port": pods.number(service, port),
                "targetPort": pods.number(service, port),
            }
            for port in service.ports
        ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.name, "labels": labels(service.name)},
        "spec": spec,
    }


def claim(size: str) -> Manifest:
    """A volume for a pod's data."""
    return {
        "metadata": {"name": "kept"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
        },
    }


def labels(name: str) -> dict[str, str]:
    """Kubernetes' own labels."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": PART_OF}


def port_name(port: str) -> str:
    """A port's name as Kubernetes takes it: at most 15 letters, no underscore."""
    return port.replace("_", "-")[:15].rstrip("-")


def compose_limits() -> dict[str, int]:
    """Service → its container's memory limit in docker-compose.yml, MB."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return {
        name: int(re.sub(r"m$", "", one["mem_limit"]))
        for name, one in services.items()
        if "mem_limit" in one
    }
