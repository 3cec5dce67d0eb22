"""`python -m app.metrics.monitoring.contacts PROGRAM FOLDER`: who is told of alerts, and how soon.

Alertmanager's and Grafana's own configuration depends on what the settings name: a receiver
without an address is an error to both. So their files are written at each start, with mode 0600,
for the addresses hold secrets. Prometheus gets its rules with the waits that the settings ask for.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.metrics.monitoring import runbook
from app.metrics.monitoring.alerts import DATA_ENGINEERING
from app.metrics.monitoring.render import FOLDER, grafana_rules, prometheus_rules, waiting
from app.metrics.monitoring.yaml import dump
from app.settings import Settings, load, write_private

RECEIVER = "headwater"
DATA_RECEIVER = "headwater-data"
WEEKEND = "headwater-weekend"
_WAIT, _AGAIN, _REPEAT, _REPEAT_WARNING = "10s", "1m", "4h", "24h"

# Of itself a message in Slack has an alert's labels only, and no way to its runbook.
_SLACK = {
    "title": "{{ .Status | toUpper }}: {{ .CommonLabels.alertname }}",
    "title_link": "{{ (index .Alerts 0).Annotations.runbook_url }}",
    "text": "{{ range .Alerts }}{{ .Annotations.summary }}. {{ .Annotations.description }}\n{{ end }}"
    "<{{ (index .Alerts 0).Annotations.runbook_url }}|What to do>",
}


@dataclass(frozen=True)
class Addresses:
    """The addresses that are told together. `name` is the receiver's and the contact point's."""

    name: str
    webhook: SecretStr | None
    slack: SecretStr | None
    email: str | None

    @property
    def any(self) -> bool:
        """Whether anybody is there to be told."""
        return not (self.webhook is None and self.slack is None and self.email is None)


def everybody(settings: Settings) -> tuple[Addresses, Addresses | None]:
    """(who is told in general, data engineering where it has an address of its own)."""
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
    """Alertmanager's configuration: a receiver with every address that is set, and data's own."""
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
        # A dead exporter, or a service that is down, explains what follows from it.
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


def _alertmanager_receiver(told: Addresses, settings: Settings) -> dict[str, Any]:
    receiver: dict[str, Any] = {"name": told.name}
    if told.webhook is not None:
        url = told.webhook.get_secret_value()
        receiver["webhook_configs"] = [{"url": url, "send_resolved": True}]
    if told.slack is not None:
        url = told.slack.get_secret_value()
        receiver["slack_configs"] = [{"api_url": url, "send_resolved": True, **_SLACK}]
    if told.email is not None:
        receiver["email_configs"] = [_mail(told.email, settings)]
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
    """Grafana's contact points, policies and mute timing. Without an address: its default one."""
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


def _grafana_receivers(told: Addresses) -> list[dict[str, Any]]:
    found: list[tuple[str, dict[str, Any]]] = []
    if told.webhook is not None:
        url = _plain(told.webhook.get_secret_value())
        found.append(("webhook", {"url": url, "httpMethod": "POST"}))
    if told.slack is not None:
        found.append(("slack", {"url": _plain(told.slack.get_secret_value())}))
    if told.email is not None:
        found.append(("email", {"addresses": _plain(told.email), "singleEmail": True}))
    return [
        {"uid": f"{told.name}-{kind}", "type": kind, "settings": values} for kind, values in found
    ]


def _muted(settings: Settings) -> list[str]:
    """The times at which warnings are not sent."""
    return [WEEKEND] if settings.profile.alert_mute_weekends else []


def _plain(text: str) -> str:
    """A text in which Grafana finds no variable of its environment."""
    return text.replace("$", "$$")


def grafana_ini(settings: Settings) -> str:
    """Grafana's settings: loopback, no calls home, the mail server where one is wanted."""
    profile = settings.profile
    lines = [
        "[server]",
        f"http_addr = {settings.bind}",
        f"http_port = {settings.port('grafana')}",
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
    if any(told is not None and told.email is not None for told in everybody(settings)):
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
        settings.published_url("prometheus") + runbook.PATH
    )
    if program == "prometheus":
        (folder / "rules.yml").write_text(dump(prometheus_rules(factor, page)))
        (folder / runbook.FILE).parent.mkdir(exist_ok=True)
        (folder / runbook.FILE).write_text(runbook.html())
        return 0
    if program == "alertmanager":
        write_private(folder / "alertmanager.yml", dump(alertmanager(settings)))
        target = settings.address("alertmanager")
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
