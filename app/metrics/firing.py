"""The alerts that fire now by Prometheus, for `headwater status`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests

from app.environment.loopback import direct_session

TIMEOUT_S = 2.0
ALERTS_MAX = 100


@dataclass(frozen=True)
class Firing:
    """One alert that fires; `since` is when its condition began to hold, in UTC."""

    severity: str
    alert: str
    since: datetime
    symptom: str


def firing(prometheus_url: str) -> list[Firing] | None:
    """List the alerts that fire, critical ones first, then by age, at most 100; None if Prometheus does not answer."""
    session = direct_session()
    try:
        answer = session.get(f"{prometheus_url.rstrip('/')}/api/v1/alerts", timeout=TIMEOUT_S)
        answer.raise_for_status()
        found = answer.json()["data"]["alerts"]
    except (requests.RequestException, ValueError, KeyError):
        return None
    alerts = [_read(one) for one in found if one["state"] == "firing"]
    return sorted(alerts, key=lambda one: (one.severity, one.since, one.symptom))[:ALERTS_MAX]


def _read(alert: dict[str, Any]) -> Firing:
    labels = alert["labels"]
    # Cut off the fraction: Python's times hold no nanoseconds.
    since = datetime.fromisoformat(alert["activeAt"][:19] + "+00:00")
    return Firing(labels["severity"], labels["alertname"], since, alert["annotations"]["summary"])
