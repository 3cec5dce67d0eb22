"""The recipients of alerts: those in the settings, and no others."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.environment.settings import Settings, load
from app.environment.toml_files import SettingsError
from app.metrics.monitoring import contacts
from app.metrics.monitoring.alert_rules import prometheus_rules
from app.metrics.monitoring.write_files import dump

ALL = {
    "alert_webhook_url": "http://127.0.0.1:9/a$b",
    "alert_slack_url": "https://example.org/hook",
    "alert_email_to": "team@example.org",
    "alert_smtp": "mail.example.org:587",
    "alert_smtp_user": "me",
    "alert_smtp_password": "hush",
}
# The alerts in Prometheus' form.
RULES = [rule for group in prometheus_rules()["groups"] for rule in group["rules"]]
DATA = {
    "data_alert_webhook_url": "http://127.0.0.1:9/data",
    "data_alert_slack_url": "https://example.org/data",
    "data_alert_email_to": "data@example.org",
}


def settings(home: Path, **given: str) -> Settings:
    return load(home, None, **given)


def test_without_an_address_nobody_is_told_and_grafana_keeps_its_default(tmp_path: Path) -> None:
    plain = settings(tmp_path)
    assert contacts.alertmanager(plain)["receivers"] == [{"name": "headwater"}]
    found = contacts.grafana_notifications(plain)
    assert found["contactPoints"] == []
    assert found["policies"][0]["receiver"] == "grafana-default-email"
    assert "[smtp]" not in contacts.grafana_ini(plain)


def test_every_address_that_is_set_is_told(tmp_path: Path) -> None:
    given = settings(tmp_path, **ALL)
    [receiver] = contacts.alertmanager(given)["receivers"]
    assert receiver["webhook_configs"][0]["url"] == ALL["alert_webhook_url"]
    assert receiver["slack_configs"][0]["api_url"] == ALL["alert_slack_url"]
    assert receiver["email_configs"][0]["require_tls"] is True
    [point] = contacts.grafana_notifications(given)["contactPoints"]
    assert [r["type"] for r in point["receivers"]] == ["webhook", "slack", "email"]
    # A `$` would be a variable of Grafana's environment.
    assert point["receivers"][0]["settings"]["url"] == "http://127.0.0.1:9/a$$b"
    assert "hush" in contacts.grafana_ini(given)


def test_addresses_are_not_shown_with_the_settings(tmp_path: Path) -> None:
    given = settings(tmp_path, **ALL)
    assert "hush" not in repr(given.profile)
    assert "example.org/hook" not in repr(given.profile)


def test_policies_name_receivers_and_mute_timings_that_exist(tmp_path: Path) -> None:
    found = contacts.grafana_notifications(settings(tmp_path, **ALL))
    names = {point["name"] for point in found["contactPoints"]}
    timings = {timing["name"] for timing in found["muteTimes"]}
    [policy] = found["policies"]
    for route in [policy, *policy["routes"]]:
        assert route["receiver"] in names
        assert set(route.get("mute_time_intervals", [])) <= timings


def test_data_engineering_is_told_of_the_data_at_its_own_address(tmp_path: Path) -> None:
    given = settings(tmp_path, **ALL, data_alert_slack_url="https://example.org/data")
    general, data = contacts.alertmanager(given)["receivers"]
    assert general["slack_configs"][0]["api_url"] == ALL["alert_slack_url"]
    # The general addresses get none of these: only one of the two teams is notified.
    assert set(data) == {"name", "slack_configs"}
    assert data["slack_configs"][0]["api_url"] == "https://example.org/data"
    own, _ = contacts.alertmanager(given)["route"]["routes"]
    assert (own["receiver"], own["matchers"]) == (data["name"], ['team="data-engineering"'])
    _, point = contacts.grafana_notifications(given)["contactPoints"]
    assert [r["settings"]["url"] for r in point["receivers"]] == ["https://example.org/data"]
    own, _ = contacts.grafana_notifications(given)["policies"][0]["routes"]
    assert own["receiver"] == point["name"]
    assert own["object_matchers"] == [["team", "=", "data-engineering"]]


def test_without_an_address_of_its_own_data_engineering_is_told_with_the_others(
    tmp_path: Path,
) -> None:
    given = settings(tmp_path, **ALL)
    assert len(contacts.alertmanager(given)["receivers"]) == 1
    assert len(contacts.grafana_notifications(given)["contactPoints"]) == 1
    routes = [
        *contacts.alertmanager(given)["route"]["routes"],
        *contacts.grafana_notifications(given)["policies"][0]["routes"],
    ]
    assert "team" not in str(routes)


def test_a_mail_server_is_there_also_where_only_data_engineering_gets_mail(tmp_path: Path) -> None:
    given = settings(tmp_path, data_alert_email_to="data@example.org", alert_smtp="mx:25")
    assert "host = mx:25" in contacts.grafana_ini(given)
    _, data = contacts.alertmanager(given)["receivers"]
    assert data["email_configs"][0]["to"] == "data@example.org"


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not on this machine")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alertmanager_sends_each_alert_to_the_team_that_it_is_for(
    tmp_path: Path, rule: dict[str, Any]
) -> None:
    path = tmp_path / "alertmanager.yml"
    path.write_text(dump(contacts.alertmanager(settings(tmp_path / "home", **ALL, **DATA))))
    labels = {"alertname": rule["alert"], **rule["labels"]}
    routed = subprocess.run(
        ["amtool", "config", "routes", "test", "--config.file", str(path)]
        + [f"{name}={value}" for name, value in labels.items()],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    about_data = labels["team"] == "data-engineering"
    assert routed.stdout.split() == ["headwater-data" if about_data else "headwater"]


def test_what_is_about_the_data_itself_is_data_engineerings() -> None:
    assert {each["alert"] for each in RULES if each["labels"]["team"] == "data-engineering"} == {
        "ConditionUnanswered",
        "DataCondition",
        "ExpectationBreached",
        "JobFailed",
        "JobLate",
        "QuarantineRate",
        "SchemaChangePending",
    }


@pytest.mark.parametrize(
    "given",
    [{}, ALL, DATA, {**ALL, **DATA}],
    ids=["nobody", "in general", "data engineering", "everybody"],
)
def test_alertmanager_accepts_its_configuration(tmp_path: Path, given: dict[str, str]) -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        pytest.skip("amtool is not on this machine (Debian's package `prometheus-alertmanager`)")
    path = tmp_path / "alertmanager.yml"
    path.write_text(dump(contacts.alertmanager(settings(tmp_path / "home", **given))))
    checked = subprocess.run(
        [amtool, "check-config", str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_files_of_a_start_are_for_their_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    folder = tmp_path / "run"
    folder.mkdir()
    assert contacts.main(["grafana", str(folder)]) == 0
    assert contacts.main(["alertmanager", str(folder)]) == 0
    secret = [
        folder / "grafana.ini",
        folder / "alertmanager.yml",
        folder / "provisioning" / "alerting" / "notifications.yaml",
    ]
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    assert (folder / "provisioning" / "alerting" / "rules.yaml").exists()


def test_a_wait_factor_shortens_every_wait_and_changes_no_question(tmp_path: Path) -> None:
    quick = settings(tmp_path, alert_wait_factor="0.1")
    route = contacts.alertmanager(quick)["route"]
    assert (route["group_wait"], route["group_interval"]) == ("1s", "6s")
    usual = [rule for group in prometheus_rules()["groups"] for rule in group["rules"]]
    short = [rule for group in prometheus_rules(0.1)["groups"] for rule in group["rules"]]
    assert [rule["expr"] for rule in short] == [rule["expr"] for rule in usual]
    assert {(a["for"], b["for"]) for a, b in zip(usual, short, strict=True)} >= {
        ("1m", "6s"),
        ("30s", "3s"),
        ("0s", "0s"),
    }


def test_warnings_wait_over_the_weekend_only_where_it_is_asked_for(tmp_path: Path) -> None:
    for muted in (False, True):
        given = settings(tmp_path, alert_mute_weekends="true" if muted else "false", **DATA)
        for routes in (
            contacts.alertmanager(given)["route"]["routes"],
            contacts.grafana_notifications(given)["policies"][0]["routes"],
        ):
            data, warnings = routes
            for route in (warnings, *data["routes"]):
                assert route["mute_time_intervals"] == (["headwater-weekend"] if muted else [])


def test_a_start_writes_the_runbook_and_links_each_alert_to_its_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADWATER_PORT_OFFSET", "7")
    folder = tmp_path / "run"
    folder.mkdir()
    assert contacts.main(["prometheus", str(folder)]) == 0
    assert contacts.main(["grafana", str(folder)]) == 0
    written = (folder / "consoles" / "runbook.html").read_text()
    for rules in (folder / "rules.yml", folder / "provisioning" / "alerting" / "rules.yaml"):
        links = re.findall(r'"?runbook_url"?: "([^"]+)"', rules.read_text())
        assert len(links) == len(RULES)
        for link in links:
            page, _, section = link.partition("#")
            assert page == "http://127.0.0.1:19097/consoles/runbook.html"
            assert f'<h2 id="{section}">' in written


def test_a_team_may_keep_its_runbook_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    page = "https://wiki.example.org/headwater"
    settings(tmp_path / "home", alert_runbook_url=page).save()
    assert contacts.main(["prometheus", str(tmp_path)]) == 0
    assert f'"{page}#tablestale"' in (tmp_path / "rules.yml").read_text()
    with pytest.raises(SettingsError, match="alert_runbook_url"):
        settings(tmp_path / "home", alert_runbook_url="runbook.md")
