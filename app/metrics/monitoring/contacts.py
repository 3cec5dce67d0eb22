"""`python -m app.metrics.monitoring.contacts PROGRAM FOLDER`: the recipients of alerts, and the delays.

The configurations of Alertmanager and Grafana depend on the settings: both refuse a receiver
without an address. So their files are written at each start, with mode 0600, because addresses hold
secrets. Prometheus gets its rules with the waiting times of the settings.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.environment.settings import Settings, load, write_private
from app.metrics.declarations.declaration import DATA_ENGINEERING
from app.metrics.monitoring import own_prometheus, runbook
from app.metrics.monitoring.alert_rules import grafana_rules, prometheus_rules, waiting
from app.metrics.monitoring.write_files import FOLDER, dump

RECEIVER = "headwater"
DATA_RECEIVER = "headwater-data"
WEEKEND = "headwater-weekend"
_WAIT, _AGAIN, _REPEAT, _REPEAT_WARNING = "10s", "1m", "4h", "24h"

# By default a message in Slack has only the labels of an alert, and no link to its runbook.
_SLACK = {
    "title": "{{ .Status | toUpper }}: {{ .CommonLabels.alertname }}",
    "title_link": "{{ (index .Alerts 0).Annotations.runbook_url }}",
    "text": "{{ range .Alerts }}{{ .Annotations.summary }}. {{ .Annotations.description }}\n{{ end }}"
    "<{{ (index .Alerts 0).Annotations.runbook_url }}|What to do>",
}


@dataclass(frozen=True)
class Addresses:
    """Addresses that are notified together. `name` is that of the receiver and the contact point."""

    name: str
    webhook: SecretStr | None
    slack: SecretStr | None
    email: str | None

    @property
    def any(self) -> bool:
        """Whether any address is set."""
        return not (self.webhook is None and self.slack is None and self.email is None)


def everybody(settings: Settings) -> tuple[Addresses, Addresses | None]:
    """Return (the general addresses, those of data engineering if it has its own)."""
    alerts = settings.profile
    general = Addresses(
        RECEIVER, alerts.alert_webhook_url, alerts.alert_slack_url, alerts.alert_email_to
    )
    data = Addresses(
        DATA_RECEIVER,
        alerts.data_alert_webhook_url,
        alerts.data_alert_slack_url,
        alerts.data_alert_email_to,
    )
    return general, data if data.any else None


# -- Alertmanager


def alertmanager(settings: Settings) -> dict[str, Any]:
    """Make Alertmanager's configuration: a general receiver, and one for data engineering if set."""
    factor = settings.profile.alert_wait_factor
    general, data = everybody(settings)
    routes = [_warnings(settings)]
    if data is not None:
        own = {
            "receiver": data.name,
            "matchers": [f'team="{DATA_ENGINEERING}"'],
            "routes": [_warnings(settings)],
        }
        routes = [own, *routes]
    return {
        "route": {
            "receiver": general.name,
            "group_by": ["alertname", "team"],
            "group_wait": waiting(_WAIT, factor),
            "group_interval": waiting(_AGAIN, factor),
            "repeat_interval": _REPEAT,
            "routes": routes,
        },
        # An alert that follows from another one is not sent.
        "inhibit_rules": [
            {
                "source_matchers": ['alertname="TrinoDown"'],
                "target_matchers": ['alertname=~"TrinoFailing|ConditionUnanswered"'],
            },
            {
                "source_matchers": ['alertname="SlotLost"'],
                "target_matchers": ['alertname=~"SlotInactive|ProbeLate"'],
            },
        ],
        "time_intervals": [
            {"name": WEEKEND, "time_intervals": [{"weekdays": ["saturday", "sunday"]}]}
        ],
        "receivers": [
            _alertmanager_receiver(each, settings) for each in (general, data) if each is not None
        ],
    }


def _alertmanager_receiver(addresses: Addresses, settings: Settings) -> dict[str, Any]:
    receiver: dict[str, Any] = {"name": addresses.name}
    if addresses.webhook is not None:
        url = addresses.webhook.get_secret_value()
        receiver["webhook_configs"] = [{"url": url, "send_resolved": True}]
    if addresses.slack is not None:
        url = addresses.slack.get_secret_value()
        receiver["slack_configs"] = [{"api_url": url, "send_resolved": True, **_SLACK}]
    if addresses.email is not None:
        receiver["email_configs"] = [_mail(addresses.email, settings)]
    return receiver


def _mail(to: str, settings: Settings) -> dict[str, Any]:
    alerts = settings.profile
    mail: dict[str, Any] = {
        "to": to,
        "from": alerts.alert_email_from,
        "smarthost": alerts.alert_smtp,
        "require_tls": alerts.alert_smtp_password is not None,
        "send_resolved": True,
    }
    if alerts.alert_smtp_user is not None:
        mail["auth_username"] = alerts.alert_smtp_user
    if alerts.alert_smtp_password is not None:
        mail["auth_password"] = alerts.alert_smtp_password.get_secret_value()
    return mail


def _warnings(settings: Settings) -> dict[str, Any]:
    return {
        "matchers": ['severity="warning"'],
        "repeat_interval": _REPEAT_WARNING,
        "mute_time_intervals": _muted(settings),
    }


# -- Grafana


def grafana_notifications(settings: Settings) -> dict[str, Any]:
    """Make Grafana's contact points, policies and mute times; without an address, its default contact point."""
    factor = settings.profile.alert_wait_factor
    general, data = everybody(settings)
    name = general.name if general.any else "grafana-default-email"
    routes = [_grafana_warnings(name, settings)]
    if data is not None:
        own = {
            "receiver": data.name,
            "object_matchers": [["team", "=", DATA_ENGINEERING]],
            "routes": [_grafana_warnings(data.name, settings)],
        }
        routes = [own, *routes]
    return {
        "apiVersion": 1,
        "contactPoints": [
            {"orgId": 1, "name": each.name, "receivers": _grafana_receivers(each)}
            for each in (general, data)
            if each is not None and each.any
        ],
        "muteTimes": [
            {
                "orgId": 1,
                "name": WEEKEND,
                "time_intervals": [{"weekdays": ["saturday", "sunday"]}],
            }
        ],
        "policies": [
            {
                "orgId": 1,
                "receiver": name,
                "group_by": ["alertname", "team"],
                "group_wait": waiting(_WAIT, factor),
                "group_interval": waiting(_AGAIN, factor),
                "repeat_interval": _REPEAT,
                "routes": routes,
            }
        ],
    }


def _grafana_warnings(receiver: str, settings: Settings) -> dict[str, Any]:
    return {
        "receiver": receiver,
        "object_matchers": [["severity", "=", "warning"]],
        "repeat_interval": _REPEAT_WARNING,
        "mute_time_intervals": _muted(settings),
    }


def _grafana_receivers(addresses: Addresses) -> list[dict[str, Any]]:
    found: list[tuple[str, dict[str, Any]]] = []
    if addresses.webhook is not None:
        url = _plain(addresses.webhook.get_secret_value())
        found.append(("webhook", {"url": url, "httpMethod": "POST"}))
    if addresses.slack is not None:
        found.append(("slack", {"url": _plain(addresses.slack.get_secret_value())}))
    if addresses.email is not None:
        found.append(("email", {"addresses": _plain(addresses.email), "singleEmail": True}))
    return [
        {"uid": f"{addresses.name}-{kind}", "type": kind, "settings": values}
        for kind, values in found
    ]


def _muted(settings: Settings) -> list[str]:
    """Return the names of the times at which warnings are not sent."""
    return [WEEKEND] if settings.profile.alert_mute_weekends else []


def _plain(text: str) -> str:
    """Escape a text, so that Grafana finds no variable of its environment in it."""
    return text.replace("$", "$$")


def grafana_ini(settings: Settings) -> str:
    """Write Grafana's settings: loopback, no calls home, a mail server if an address needs it."""
    profile = settings.profile
    lines = [
        "[server]",
        f"http_addr = {settings.ports.bind}",
        f"http_port = {settings.ports.number('grafana')}",
        "[analytics]",
        "reporting_enabled = false",
        "check_for_updates = false",
        "check_for_plugin_updates = false",
        "[security]",
        "admin_user = admin",
        f"admin_password = {settings.secret('grafana_admin_password')}",
        "disable_gravatar = true",
        "[users]",
        "allow_sign_up = false",
        "[log]",
        "mode = console",
        "level = warn",
    ]
    if any(
        addresses is not None and addresses.email is not None for addresses in everybody(settings)
    ):
        lines += ["[smtp]", "enabled = true", f"host = {profile.alert_smtp}"]
        lines += [f"from_address = {profile.alert_email_from}"]
        if profile.alert_smtp_user is not None:
            lines.append(f"user = {profile.alert_smtp_user}")
        if profile.alert_smtp_password is not None:
            lines.append(f'password = """{profile.alert_smtp_password.get_secret_value()}"""')
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files of `prometheus`, `alertmanager` or `grafana` into a folder."""
    program, folder = arguments[0], Path(arguments[1])
    settings = load()
    factor = settings.profile.alert_wait_factor
    page = settings.profile.alert_runbook_url or (
        settings.ports.published_url("prometheus") + runbook.PATH
    )
    if program == "prometheus":
        own_prometheus.adapt(folder, settings)
        (folder / "rules.yml").write_text(dump(prometheus_rules(factor, page)))
        (folder / runbook.FILE).parent.mkdir(exist_ok=True)
        (folder / runbook.FILE).write_text(runbook.html())
        return 0
    if program == "alertmanager":
        write_private(folder / "alertmanager.yml", dump(alertmanager(settings)))
        target = settings.ports.address("alertmanager")
        write_private(folder / "targets.json", json.dumps([{"targets": [target]}]))
        return 0
    alerting = folder / "provisioning" / "alerting"
    shutil.copytree(FOLDER / "provisioning", folder / "provisioning", dirs_exist_ok=True)
    write_private(alerting / "notifications.yaml", dump(grafana_notifications(settings)))
    (alerting / "rules.yaml").write_text(dump(grafana_rules(factor, page)))
    write_private(folder / "grafana.ini", grafana_ini(settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
