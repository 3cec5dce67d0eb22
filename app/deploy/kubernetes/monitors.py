"""Dashboards for Grafana's sidecar, rules and targets for Prometheus' operator."""

from __future__ import annotations

import yaml

from app.deploy.kubernetes.cluster_settings import Pods
from app.deploy.kubernetes.workloads import Manifest, labels, port_name
from app.environment.settings import ROOT
from app.metrics.monitoring.alert_rules import prometheus_rules
from app.metrics.monitoring.runbook import PATH

API = "monitoring.coreos.com/v1"
RUNBOOK = f"http://prometheus-operated:9090{PATH}"
NOT_HERE = ("prometheus",)  # it asks itself by its operator
OPERATORS = ("kafka", "connect")


def manifests(pods: Pods) -> list[Manifest]:
    """Return a ConfigMap a dashboard, the rules, and a monitor for each job of prometheus.yml."""
    return [*dashboards(), rules(), *targets(pods)]


def dashboards() -> list[Manifest]:
    """Dashboards as files of Grafana's sidecar, which looks for this label."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"headwater-dashboard-{path.stem}",
                "labels": {**labels(f"headwater-dashboard-{path.stem}"), "grafana_dashboard": "1"},
            },
            "data": {path.name: path.read_text()},
        }
        for path in sorted((ROOT / "grafana" / "generated" / "dashboards").glob("*.json"))
    ]


def rules() -> Manifest:
    """All alerts, as one PrometheusRule."""
    return {
        "apiVersion": API,
        "kind": "PrometheusRule",
        "metadata": {"name": "headwater", "labels": labels("headwater")},
        "spec": prometheus_rules(page=RUNBOOK),
    }


def targets(pods: Pods) -> list[Manifest]:
    """Each job of grafana/prometheus.yml as a ServiceMonitor; jobs have the names that alerts know."""
    jobs = yaml.safe_load((ROOT / "grafana" / "prometheus.yml").read_text())["scrape_configs"]
    return [_monitor(pods, job) for job in jobs if job["job_name"] not in NOT_HERE]


def _monitor(pods: Pods, job: Manifest) -> Manifest:
    name = job["job_name"]
    service, port = _place(name)
    number = pods.number(pods.services[service], port)
    endpoint: Manifest = {"port": f"port-{number}" if service in OPERATORS else port_name(port)}
    if service == "trino":
        endpoint = {"port": "http"}  # the chart's name of it
    renamed = {
        "metrics_path": "path", "scrape_interval": "interval", "scrape_timeout": "scrapeTimeout", "params": "params",
    }  # fmt: skip
    endpoint |= {renamed[key]: value for key, value in job.items() if key in renamed}
    if "basic_auth" in job:
        secret = {"name": "headwater-prometheus", "key": "username"}
        endpoint["basicAuth"] = {"username": secret, "password": {**secret, "key": "password"}}
    relabel = [_relabelling(one) for one in job.get("metric_relabel_configs", [])]
    if relabel:
        endpoint["metricRelabelings"] = relabel
    # Alerts use the job's name; Prometheus would take the Service's.
    endpoint["relabelings"] = [{"targetLabel": "job", "replacement": name, "action": "replace"}]
    spec: Manifest = {
        "selector": {"matchLabels": {"app.kubernetes.io/name": service}},
        "endpoints": [endpoint],
    }
    if "sample_limit" in job:
        spec["sampleLimit"] = job["sample_limit"]
    return {
        "apiVersion": API,
        "kind": "ServiceMonitor",
        "metadata": {"name": f"headwater-{name}", "labels": labels(f"headwater-{name}")},
        "spec": spec,
    }


def _place(job: str) -> tuple[str, str]:
    """The service and the port that a job asks."""
    own = {
        "spark": ("silver", "spark_ui"),
        "trino": ("trino", "trino"),
        "metrics": ("metrics", "metrics"),
    }
    return own.get(job, (job, f"{job}_metrics"))


def _relabelling(found: Manifest) -> Manifest:
    renamed = {"source_labels": "sourceLabels", "target_label": "targetLabel"}
    return {
        renamed.get(key, key): value.replace("$${", "${") if isinstance(value, str) else value
        for key, value in found.items()
    }
