"""The provisioning files of a start are valid for Grafana; no server is needed.

The test reads the written files back, so the YAML itself is tested.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tomli
import yaml

from app.environment.settings import load
from app.metrics.monitoring import contacts
from app.metrics.monitoring.grafana_panels import DATASOURCE
from app.metrics.monitoring.write_files import FOLDER
from tests.support import grafana_schema as schema

ADDRESSES: dict[str, str] = {
    "alert_webhook_url": "http://127.0.0.1:9/a$b?c=${HOME}",
    "alert_slack_url": "https://example.org/services/T0/B0/$secret",
    "alert_email_to": "team@example.org",
    "data_alert_webhook_url": "http://127.0.0.1:9/data?c=$d",
    "data_alert_slack_url": "https://example.org/services/T0/B1/secret",
    "data_alert_email_to": "data@example.org",
    "alert_smtp": "mail.example.org:587",
    "alert_mute_weekends": "true",
}
# The only names that an annotation's template may use; both exist since Grafana 9.
TEMPLATES = re.compile(r"\{\{ \$(labels\.\w+|values\.A\.Value) \}\}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files for a start of service `grafana`, with every address set."""
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    load(tmp_path / "home", None, **ADDRESSES).save()
    run = tmp_path / "run"
    run.mkdir()
    assert contacts.main(["grafana", str(run)]) == 0
    return run / "provisioning"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_grafana_knows_every_folder_and_file_of_the_provisioning(folder: Path) -> None:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "alerting/notifications.yaml",
        "alerting/rules.yaml",
        "dashboards/headwater.yaml",
        "datasources/headwater.yaml",
    }


def test_the_files_have_the_fields_that_grafana_reads_and_no_others(folder: Path) -> None:
    schema.RulesFile.model_validate(read(folder / "alerting" / "rules.yaml"))
    schema.NotificationsFile.model_validate(read(folder / "alerting" / "notifications.yaml"))
    schema.ProvidersFile.model_validate(read(folder / "dashboards" / "headwater.yaml"))
    schema.DataSourcesFile.model_validate(read(folder / "datasources" / "headwater.yaml"))


def test_without_an_address_there_is_no_contact_point_and_the_rest_is_whole(
    tmp_path: Path,
) -> None:
    found = contacts.grafana_notifications(load(tmp_path, None))
    assert schema.NotificationsFile.model_validate(found).contactPoints == []


@pytest.mark.parametrize(
    "path", sorted((FOLDER / "generated" / "dashboards").iterdir()), ids=lambda p: p.stem
)
def test_a_dashboard_has_the_fields_that_grafana_reads_and_no_others(path: Path) -> None:
    board = schema.Dashboard.model_validate(json.loads(path.read_text()))
    for panel in board.panels:
        steps = [step.value for step in panel.fieldConfig.defaults.thresholds.steps]
        # The first step begins at minus infinity; the others increase.
        assert steps[0] is None, panel.title
        assert None not in steps[1:], panel.title
        assert steps[1:] == sorted(set(steps[1:]), key=lambda value: value or 0.0), panel.title
        assert [t.refId for t in panel.targets] == ["A", "B", "C"][: len(panel.targets)]
        wanted = schema.StatOptions if panel.type == "stat" else schema.GraphOptions
        assert isinstance(panel.options, wanted), panel.title


def test_a_rule_is_a_question_to_the_data_source_and_a_threshold_on_its_answer(
    folder: Path,
) -> None:
    rules = schema.RulesFile.model_validate(read(folder / "alerting" / "rules.yaml"))
    intervals = {group.interval for group in rules.groups}
    assert intervals == {"10s"}  # Grafana's shortest interval; it accepts only multiples of it
    uids = [rule.uid for group in rules.groups for rule in group.rules]
    titles = [(group.folder, rule.title) for group in rules.groups for rule in group.rules]
    assert len(set(uids)) == len(uids)
    assert len(set(titles)) == len(titles), "a title is unique within its folder"
    for group in rules.groups:
        for rule in group.rules:
            asked, judged = rule.data
            assert asked.datasourceUid == DATASOURCE
            assert isinstance(asked.model, schema.PrometheusModel)
            assert asked.model.instant and not asked.model.range
            assert judged.datasourceUid == "__expr__"
            assert isinstance(judged.model, schema.ThresholdModel)
            assert judged.model.expression == asked.refId
            assert rule.condition == judged.refId
            for query in rule.data:
                assert query.model.refId == query.refId
                assert query.relativeTimeRange.from_ >= query.relativeTimeRange.to


def test_annotations_are_taken_as_written_and_nothing_else_of_a_rule_has_a_dollar(
    folder: Path,
) -> None:
    """Grafana expands no `$NAME` in annotations and queries, so `$$` would stay there."""
    rules = schema.RulesFile.model_validate(read(folder / "alerting" / "rules.yaml"))
    for group in rules.groups:
        assert "$" not in group.name + group.folder
        for rule in group.rules:
            for text in rule.annotations.values():
                assert "$" not in TEMPLATES.sub("", text), text
            assert "{{ $values.A.Value }}" in rule.annotations["description"]
            rest = rule.model_dump(exclude={"annotations"})
            assert "$" not in json.dumps(rest), rule.uid


def test_rules_lie_in_a_folder_whose_title_is_not_the_dashboards(folder: Path) -> None:
    """Rules are read first, and their folder gets a random uid. A folder of the same title with the
    dashboards' uid is then refused, which ends Grafana 11.0, or becomes a second one."""
    rules = schema.RulesFile.model_validate(read(folder / "alerting" / "rules.yaml"))
    found = schema.ProvidersFile.model_validate(read(folder / "dashboards" / "headwater.yaml"))
    titles = {group.folder for group in rules.groups}
    assert len(titles) == 1
    assert titles.isdisjoint({provider.folder for provider in found.providers})
    assert all("/" not in title for title in titles), "a slash would be a folder in a folder"


def test_addresses_reach_grafana_as_they_were_given(folder: Path) -> None:
    found = schema.NotificationsFile.model_validate(
        read(folder / "alerting" / "notifications.yaml")
    )
    read_back = {
        receiver.uid: schema.interpolated(
            receiver.settings.addresses
            if isinstance(receiver.settings, schema.EmailSettings)
            else receiver.settings.url,
            {},
        )
        for point in found.contactPoints
        for receiver in point.receivers
    }
    assert read_back == {
        "headwater-webhook": ADDRESSES["alert_webhook_url"],
        "headwater-slack": ADDRESSES["alert_slack_url"],
        "headwater-email": ADDRESSES["alert_email_to"],
        "headwater-data-webhook": ADDRESSES["data_alert_webhook_url"],
        "headwater-data-slack": ADDRESSES["data_alert_slack_url"],
        "headwater-data-email": ADDRESSES["data_alert_email_to"],
    }


def test_policies_match_labels_that_rules_have_and_name_what_is_there(folder: Path) -> None:
    rules = schema.RulesFile.model_validate(read(folder / "alerting" / "rules.yaml"))
    found = schema.NotificationsFile.model_validate(
        read(folder / "alerting" / "notifications.yaml")
    )
    labels = [rule.labels for group in rules.groups for rule in group.rules]
    points = {point.name for point in found.contactPoints}
    timings = {timing.name for timing in found.muteTimes}
    [policy] = found.policies
    # By default Grafana groups by folder and name; each alert must have the labels of the grouping.
    assert set(policy.group_by) - {"alertname", "grafana_folder"} <= set.intersection(
        *(set(each) for each in labels)
    )
    assert policy.receiver in points
    below = [r for r in policy.routes if isinstance(r, schema.TeamRoute)]
    for route in [*policy.routes, *(inner for team in below for inner in team.routes)]:
        assert route.receiver in points
        if isinstance(route, schema.Route):
            assert set(route.mute_time_intervals) <= timings
        for name, operator, value in route.object_matchers:
            assert operator == "="
            assert any(each.get(name) == value for each in labels), f"{name} = {value}"


def test_what_is_read_from_the_environment_is_set_where_grafana_starts(folder: Path) -> None:
    services = tomli.loads((FOLDER / "service.toml").read_text())["services"]
    environment = services["grafana"]["environment"]
    [source] = read(folder / "datasources" / "headwater.yaml")["datasources"]
    [provider] = read(folder / "dashboards" / "headwater.yaml")["providers"]
    used = [source["url"], provider["options"]["path"]]
    assert [schema.interpolated(text, environment) for text in used] == list(environment.values())
