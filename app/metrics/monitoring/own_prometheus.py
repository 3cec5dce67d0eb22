"""What the profile changes in Prometheus' configuration: parts that are not the stack's, and remote write."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from app.environment.settings import Settings, write_private
from app.environment.signed_in import without_user

CONFIGURATION = "prometheus.yml"
# For an unreachable receiver this much waits on disk; beyond it the oldest samples are lost to that receiver only.
_QUEUE = {"max_shards": 4, "max_samples_per_send": 2_000, "max_backoff": "30s"}


def adapt(folder: Path, settings: Settings) -> None:
    """Rewrite the configuration in `folder` if the profile needs it, readable by its owner only."""
    path = folder / CONFIGURATION
    profile = settings.profile
    if profile.connect_here and profile.trino_here and not profile.prometheus_remote_write_url:
        return
    write_private(path, yaml.safe_dump(adapted(yaml.safe_load(path.read_text()), settings)))


def adapted(shipped: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the configuration without the jobs of parts of one's own, and with remote write."""
    profile = settings.profile
    elsewhere = {
        name
        for name, here in (("connect", profile.connect_here), ("trino", profile.trino_here))
        if not here
    }
    jobs = [job for job in shipped["scrape_configs"] if job["job_name"] not in elsewhere]
    found = {**shipped, "scrape_configs": jobs}
    if profile.prometheus_remote_write_url is None:
        return found
    # A label of all that leaves, alerts included: the receiver has several stacks.
    labels = {"stack": profile.prometheus_remote_write_name}
    found["global"] = {**shipped["global"], "external_labels": labels}
    found["remote_write"] = [_receiver(settings.secret("prometheus_remote_write_url"))]
    return found


def _receiver(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    receiver: dict[str, Any] = {"url": without_user(url), "queue_config": _QUEUE}
    if parts.username is not None:
        receiver["basic_auth"] = {
            "username": unquote(parts.username),
            "password": unquote(parts.password or ""),
        }
    return receiver
