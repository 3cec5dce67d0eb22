"""Values for the charts of Trino and Superset, from the same files as natively."""

from __future__ import annotations

from app.deploy.kubernetes.cluster_settings import ENVIRONMENT, VARIABLES_SECRET, Pods
from app.deploy.kubernetes.workloads import Manifest
from app.environment.settings import ROOT
from spark_streaming.storage.store_address import VARIABLES

# A query's share of a node's heap, and the memory that Trino does not track; like trino/config.properties at 1 GB.
QUERY_SHARE, HEADROOM_SHARE = 0.4, 0.25
KEPT = ("spill-enabled", "max-spill-per-node", "query-max-spill-per-node", "spiller-threads")
LIMITS = ("query.max-execution-time", "query.client.timeout", "query.min-expire-age")
CONNECTION = "SUPERSET_DATABASE"


def trino(pods: Pods) -> Manifest:
    """Values of Trino's own chart: the catalog, the rules, memory, spilling, fault tolerance."""
    own = pods.cluster.trino
    service = pods.services["trino"]
    files = {name: service.folder / path for name, path in service.files.items()}
    settings = dict(
        line.split("=", 1)
        for line in files["config.properties"].read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    kept = [f"{key}={settings[key]}" for key in (*KEPT, *LIMITS)]
    query_gb = max(1, round(own.heap_gb * QUERY_SHARE))
    secrets = [VARIABLES["access_key"], VARIABLES["secret_key"]]
    return {
        "server": {
            "workers": own.workers,
            "config": {
                "query": {"maxMemory": f"{query_gb * max(1, own.workers)}GB"},
            },
        },
        "coordinator": _jvm(own.heap_gb, query_gb),
        "worker": _jvm(own.heap_gb, query_gb),
        # If a worker is lost, its task runs again, without reading its input twice.
        "additionalConfigProperties": [
            *kept,
            "spiller-spill-path=/tmp/spill",
            "retry-policy=TASK",
            "access-control.config-files=/etc/trino/access-control/access-control.properties",
        ],
        "additionalExchangeManagerProperties": [
            "exchange-manager.name=filesystem",
            f"exchange.base-directories={pods.settings.store.url(pods.settings.store.lake_bucket, 'exchange/')}",
            f"exchange.s3.region={pods.settings.store.region}",
            *(
                f"exchange.s3.aws-{key}=${{ENV:{name}}}"
                for key, name in zip(("access-key", "secret-key"), secrets, strict=True)
            ),
        ],
        "catalogs": {
            "lake": pods.rendered(service, files["catalog/lake.properties"].read_text()),
        },
        "accessControl": {
            "type": "configmap",
            "configFile": "rules.json",
            "rules": {"rules.json": files["rules.json"].read_text()},
        },
        "env": [
            {
                "name": name,
                "valueFrom": {"secretKeyRef": {"name": VARIABLES_SECRET, "key": name}},
            }
            for name in secrets
        ],
        "envFrom": [{"configMapRef": {"name": ENVIRONMENT}}],
        "securityContext": {"runAsNonRoot": True},
    }


def superset() -> Manifest:
    """Values of Superset's own chart: our settings, secrets by reference."""
    return {
        "configOverrides": {"headwater": (ROOT / "superset" / "superset_config.py").read_text()},
        "envFromSecrets": ["headwater-superset"],
        "supersetNode": {"replicaCount": 1},
        "init": {"loadExamples": False},
        "extraEnv": {"SCARF_ANALYTICS": "false"},
    }


def _jvm(heap_gb: int, query_gb: int) -> Manifest:
    headroom_gb = max(1, round(heap_gb * HEADROOM_SHARE))
    return {
        "jvm": {"maxHeapSize": f"{heap_gb}G"},
        "config": {
            "memory": {"heapHeadroomPerNode": f"{headroom_gb}GB"},
            "query": {"maxMemoryPerNode": f"{query_gb}GB"},
        },
        "resources": {
            "requests": {"memory": f"{heap_gb + 2}Gi"},
            "limits": {"memory": f"{heap_gb + 2}Gi"},
        },
    }
