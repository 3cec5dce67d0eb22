"""Panels, alerts and the files generated from them; with promtool, each alert on data."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from app.metrics.declarations.declaration import Query, query_of
from app.metrics.declarations.freshness_metrics import TABLE_BEHIND_TARGET
from app.metrics.declarations.quality_metrics import SCHEMA_PENDING
from app.metrics.metric_list import ALERTS, BY_NAME, DASHBOARDS, METRICS, place_of
from app.metrics.monitoring import runbook
from app.metrics.monitoring.alert_rules import grafana_rules, prometheus_rules
from app.metrics.monitoring.grafana_panels import DATASOURCE
from app.metrics.monitoring.write_files import FOLDER, dump, files
from app.services.service import load_services
from tests.unit.alert_cases import CASES, LOOKED_AT, WRITTEN

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not on this machine (Debian's package `prometheus`)"
)
ROOT = Path(__file__).resolve().parents[5]
# Silver exports these only after the first event.
ELSEWHERE = {"headwater_freshness_target_seconds", "headwater_silver_schema_changes_total"}
ALERTS_BY_NAME = {alert.name: alert for alert in ALERTS}
SHOWN = {query.promql for board in DASHBOARDS for panel in board.panels for query in panel.queries}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL
    return subprocess.run(
        [PROMTOOL, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_generated_files_are_up_to_date() -> None:
    hint = "run `python -m app.metrics.monitoring.write_files` and commit what it wrote"
    for name, text in files().items():
        assert (FOLDER / name).read_text() == text, f"grafana/{name}: {hint}"


def test_every_name_and_uid_is_given_once() -> None:
    assert len(ALERTS_BY_NAME) == len(ALERTS)
    assert len({alert.section for alert in ALERTS}) == len(ALERTS)
    assert len({board.uid for board in DASHBOARDS}) == len(DASHBOARDS)
    assert len(BY_NAME) == len(METRICS)


def test_every_alert_has_a_section_in_the_runbook_that_says_what_to_do() -> None:
    sections = re.split(r"^## ", (FOLDER / "runbook.md").read_text(), flags=re.M)[1:]
    found = {part.split("\n", 1)[0].strip(): part for part in sections}
    assert {name for name in found if name in ALERTS_BY_NAME} == set(ALERTS_BY_NAME)
    for name in ALERTS_BY_NAME:
        assert "**Look at**" in found[name], name
        assert "**Do**" in found[name], name


def test_every_alert_links_to_its_section_of_the_page() -> None:
    page = runbook.html()
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    for group in prometheus_rules()["groups"]:
        for rule in group["rules"]:
            url = urlsplit(rule["annotations"]["runbook_url"])
            assert (url.scheme, url.path) == ("http", runbook.PATH)
            section = page.split(f'<h2 id="{url.fragment}">', 1)[1].split("<h2 ", 1)[0]
            assert section.startswith(f"{rule['alert']}</h2>")
            assert "<strong>Look at</strong>" in section
            assert "<strong>Do</strong>" in section


def test_prometheus_must_not_find_a_template_in_the_runbook() -> None:
    with pytest.raises(ValueError, match="carry out"):
        runbook.html("## A {{ query }}")


def test_what_an_alert_asks_is_shown_on_a_panel() -> None:
    for alert in ALERTS:
        place_of(alert)
    unseen = replace(ALERTS[0], asked="up == 2")
    with pytest.raises(KeyError, match="no panel shows the query of alert TableStale"):
        place_of(unseen)


def test_a_new_alert_gets_a_section_in_the_runbook_after_the_one_before_it() -> None:
    whole = runbook.SOURCE.read_text()
    before, rest = whole.split("\n## SlotLost\n")
    less = f"{before}\n## {rest.split(chr(10) + '## ', 1)[1]}"
    made = runbook.with_all_sections(less)
    assert runbook.with_all_sections(made) == made
    [section] = re.findall(r"## SlotLost\n(.*?)\n\n## SlotHoldsTooMuch\n", made, flags=re.S)
    assert section.startswith("The replication slot is gone or has lost WAL")
    assert "\n**Look at** *Slot lost* on dashboard capture.\n**Do** " in section


def test_dashboards_and_rules_refer_to_the_one_data_source() -> None:
    text = "".join(files().values())
    uids = set(re.findall(r'"?(?:datasourceUid|uid)"?: "([^"]+)"', text))
    known = {DATASOURCE, "__expr__", *(board.uid for board in DASHBOARDS)}
    known |= {f"headwater-{alert.name.lower()}" for alert in ALERTS}
    assert uids <= known
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/headwater.yaml").read_text())
    assert [source["uid"] for source in sources["datasources"]] == [DATASOURCE]


def test_a_rule_of_grafana_leads_to_the_panel_that_asks_its_question() -> None:
    for group in grafana_rules()["groups"]:
        for rule in group["rules"]:
            board = next(b for b in DASHBOARDS if b.uid == rule["dashboardUid"])
            panel = board.panels[rule["panelId"] - 1]
            asked = [query["model"].get("expr") for query in rule["data"]]
            assert any(query.promql in asked for query in panel.queries)


def test_dashboards_have_fixed_uids_and_lie_in_the_one_folder() -> None:
    providers = yaml.safe_load((FOLDER / "provisioning/dashboards/headwater.yaml").read_text())
    [provider] = providers["providers"]
    assert provider["folderUid"] == "headwater"
    for board in DASHBOARDS:
        found = json.loads((FOLDER / f"generated/dashboards/{board.name}.json").read_text())
        assert found["uid"] == board.uid
        assert [panel["id"] for panel in found["panels"]] == list(range(1, len(board.panels) + 1))
        for panel in found["panels"]:
            assert panel["type"] in ("stat", "timeseries", "table")
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert sources == [{"type": "prometheus", "uid": DATASOURCE}] * len(sources)


def test_panels_do_not_overlap_and_fit_the_grid() -> None:
    for board in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads((FOLDER / f"generated/dashboards/{board.name}.json").read_text())[
            "panels"
        ]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells


def test_metrics_are_named_in_prometheus_conventions() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"headwater_[a-z0-9_]+[a-z]", metric.name)
        assert not metric.name.endswith("_total"), "the text format adds it"
        assert not re.search(r"_(ms|millis|mb|kb|minutes|percent)(_|$)", metric.name)


def test_panels_ask_only_for_metrics_of_the_exporter_that_exist() -> None:
    known = {metric.sample for metric in METRICS} | {f"{m.name}_bucket" for m in METRICS}
    parts = ("ops/job_metrics.py", "streams/stream_metrics.py")
    told = "".join((ROOT / "spark_streaming" / part).read_text() for part in parts)
    for promql in SHOWN - {alert.promql for alert in ALERTS if alert.may_be_absent}:
        for used in re.findall(r"headwater_[a-z0-9_]+", promql):
            plain = re.sub(r"_(total|bucket|count|sum)$", "", used)
            assert used in known | ELSEWHERE or f'"{plain}"' in told, f"{promql}: {used}"


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert set(CASES) == set(ALERTS_BY_NAME) >= set(WRITTEN)


def packed() -> list[tuple[dict[str, int], dict[str, str]]]:
    """Put the cases into few groups, because each takes an hour of evaluations; no two in a group share a metric."""
    groups: list[tuple[dict[str, int], dict[str, str]]] = []
    for name, cases in CASES.items():
        for series, fires in zip(cases, (1, 0), strict=True):
            metrics = {key.split("{")[0] for key in series}
            for expected, taken in groups:
                if name not in expected and not metrics & {key.split("{")[0] for key in taken}:
                    break
            else:
                expected, taken = {}, {}
                groups.append((expected, taken))
            expected[name] = fires
            taken.update(series)
    return groups


def answers(
    folder: Path, query: Query | str, series: dict[str, str], expected: dict[str, float]
) -> None:
    """promtool's answer to a query on these series: value by table."""
    test = {
        "interval": "1m",
        "input_series": [{"series": s, "values": v} for s, v in series.items()],
        "promql_expr_test": [
            {
                "expr": query_of(query).promql,
                "eval_time": "5m",
                "exp_samples": [
                    {"labels": f'{{table="{table}"}}', "value": value}
                    for table, value in expected.items()
                ],
            }
        ],
    }
    path = folder / "query.test.yml"
    path.write_text(dump({"evaluation_interval": "1m", "tests": [test]}))
    ended = promtool("test", "rules", str(path))
    assert ended.returncode == 0, ended.stdout + ended.stderr


@needs_promtool
def test_silvers_own_freshness_target_counts_where_it_tells_one(tmp_path: Path) -> None:
    behind = 'headwater_table_seconds_behind{table="%s",hop="silver"}'
    series = {
        behind % "orders": "30x9",
        behind % "movies": "30x9",
        'headwater_table_freshness_target_seconds{table="orders"}': "60x9",
        'headwater_table_freshness_target_seconds{table="movies"}': "60x9",
        'headwater_freshness_target_seconds{table="movies",job="silver"}': "10x9",
    }
    answers(tmp_path, TABLE_BEHIND_TARGET, series, {"movies": 3, "orders": 0.5})


@needs_promtool
def test_a_change_waits_for_a_decision_while_it_stops_its_table(tmp_path: Path) -> None:
    stopped = 'headwater_silver_schema_changes_total{table="%s",kind="%s",outcome="stopped"}'
    series = {
        **{f'headwater_silver_refused{{table="{name}"}}': "0x9" for name in ("a", "b", "c")},
        'headwater_silver_refused{table="d"}': "1x9",
        'headwater_silver_stopped{table="a"}': "1x9",
        'headwater_silver_stopped{table="b"}': "1x9",
        'headwater_silver_stopped{table="c"}': "0x9",
        'headwater_silver_stopped{table="d"}': "0x9",
        # A failure stops b, and c continues after a change that had stopped it.
        stopped % ("a", "key_change"): "1x9",
        stopped % ("a", "drop_column"): "1x9",
        stopped % ("c", "key_change"): "1x9",
    }
    answers(tmp_path, SCHEMA_PENDING, series, {"a": 1, "b": 0, "c": 0, "d": 1})


@needs_promtool
def test_prometheus_accepts_the_rules() -> None:
    checked = promtool("check", "rules", str(FOLDER / "generated/rules.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.unhurried
@needs_promtool
def test_each_alert_fires_on_its_symptom_and_is_silent_on_what_is_normal(tmp_path: Path) -> None:
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                    "eval_time": LOOKED_AT.get(name, "1h"),
                    "exp_samples": [{"labels": "{}", "value": fires}],
                }
                for name, fires in expected.items()
            ],
        }
        for expected, series in packed()
    ]
    path = tmp_path / "alerts.test.yml"
    rules = str(FOLDER / "generated/rules.yml")
    path.write_text(dump({"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}))
    ended = promtool("test", "rules", str(path))
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-6000:]


def test_prometheus_asks_the_streams_where_their_service_was_started() -> None:
    service = load_services(ROOT)["streams"]
    [(written, template)] = service.files.items()
    [asked] = json.loads((service.folder / template).read_text())
    assert asked["targets"] == ["${host.streams_metrics}:${port.streams_metrics}"]
    config = (ROOT / "grafana" / "prometheus.yml").read_text()
    assert f"${{home}}/run/streams/{written}" in config
