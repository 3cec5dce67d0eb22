"""`python -m app.metrics.monitoring.contacts PROGRAM FOLDER`: who is told of alerts, and how soon.

Alertmanager's and Grafana's own configuration depends on what the settings name: a receiver
without an address is an error to both. So their files are written at each start, with mode 0600,
for the addresses hold secrets. Prometheus gets its rules with the waits that the settings ask for.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from app.metrics.monitoring.render import FOLDER, grafana_rules, prometheus_rules, waiting
from app.metrics.monitoring.yaml import dump
from app.settings import Settings, load, write_private

RECEIVER = "headwater"
WEEKEND = "headwater-weekend"
_WAIT, _AGAIN, _REPEAT, _REPEAT_WARNING = "10s", "1m", "4h", "24h"


def alertmanager(settings: Settings) -> dict[str, Any]:
    """Alertmanager's configuration: one receiver with every address that is set."""
    profile = settings.profile
    receiver: dict[str, Any] = {"name": RECEIVER}
    if profile.alert_webhook_url is not None:
        receiver["webhook_configs"] = [
            {"url": profile.alert_webhook_url.get_secret_value(), "send_resolved": True}
        ]
    if profile.alert_slack_url is not None:
        receiver["slack_configs"] = [
            {"api_url": profile.alert_slack_url.get_secret_value(), "send_resolved": True}
        ]
    if profile.alert_email_to is not None:
        mail: dict[str, Any] = {
            "to": profile.alert_email_to,
            "from": profile.alert_email_from,
            "smarthost": profile.alert_smtp,
            "require_tls": profile.alert_smtp_password is not None,
            "send_resolved": True,
        }
        if profile.alert_smtp_user is not None:
            mail["auth_username"] = profile.alert_smtp_user
        if profile.alert_smtp_password is not None:
            mail["auth_password"] = profile.alert_smtp_password.get_secret_value()
        receiver["email_configs"] = [mail]
    return {
        "route": {
            "receiver": RECEIVER,
            "group_by": ["alertname", "team"],
            "group_wait": waiting(_WAIT, profile.alert_wait_factor),
            "group_interval": waiting(_AGAIN, profile.alert_wait_factor),
            "repeat_interval": _REPEAT,
            "routes": [
                {
                    "matchers": ['severity="warning"'],
                    "repeat_interval": _REPEAT_WARNING,
                    "mute_time_intervals": _muted(settings),
                }
            ],
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
        "receivers": [receiver],
    }


def grafana_notifications(settings: Settings) -> dict[str, Any]:
    """Grafana's contact point, policies and mute timing. Without an address: its default one."""
    profile = settings.profile
    receivers: list[dict[str, Any]] = []
    if profile.alert_webhook_url is not None:
        url = _plain(profile.alert_webhook_url.get_secret_value())
        receivers.append(_receiver("webhook", {"url": url, "httpMethod": "POST"}))
    if profile.alert_slack_url is not None:
        url = _plain(profile.alert_slack_url.get_secret_value())
        receivers.append(_receiver("slack", {"url": url}))
    if profile.alert_email_to is not None:
        addresses = {"addresses": _plain(profile.alert_email_to), "singleEmail": True}
        receivers.append(_receiver("email", addresses))
    name = RECEIVER if receivers else "grafana-default-email"
    points = [{"orgId": 1, "name": name, "receivers": receivers}] if receivers else []
    return {
        "apiVersion": 1,
        "contactPoints": points,
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
                "group_wait": waiting(_WAIT, profile.alert_wait_factor),
                "group_interval": waiting(_AGAIN, profile.alert_wait_factor),
                "repeat_interval": _REPEAT,
                "routes": [
                    {
                        "receiver": name,
                        "object_matchers": [["severity", "=", "warning"]],
                        "repeat_interval": _REPEAT_WARNING,
                        "mute_time_intervals": _muted(settings),
                    }
                ],
            }
        ],
    }


def _muted(settings: Settings) -> list[str]:
    """The times at which warnings are not sent."""
    return [WEEKEND] if settings.profile.alert_mute_weekends else []


def _receiver(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"uid": f"headwater-{kind}", "type": kind, "settings": values}


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
    if profile.alert_email_to is not None:
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
    if program == "prometheus":
        (folder / "rules.yml").write_text(dump(prometheus_rules(factor)))
        return 0
    if program == "alertmanager":
        write_private(folder / "alertmanager.yml", dump(alertmanager(settings)))
        target = settings.address("alertmanager")
        write_private(folder / "targets.json", json.dumps([{"targets": [target]}]))
        return 0
    shutil.copytree(FOLDER / "provisioning", folder / "provisioning", dirs_exist_ok=True)
    notifications = folder / "provisioning" / "alerting" / "notifications.yaml"
    write_private(notifications, dump(grafana_notifications(settings)))
    (folder / "provisioning" / "alerting" / "rules.yaml").write_text(dump(grafana_rules(factor)))
    write_private(folder / "grafana.ini", grafana_ini(settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
