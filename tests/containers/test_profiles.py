"""The profiles besides `core`: dashboards, monitoring, the verifier, events by API; and the demo."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

import pytest
import requests
import yaml

from tests.containers.project import COMPOSE, OFFICIAL, PATIENCE_S, Containers, is_healthy
from tests.support.intake import intake_of
from tests.support.stack import ROOT
from tests.support.waiting import until

FULL_MB_MAX = 8 * 1024
VERIFIED = re.compile(r'^headwater_verify_equal\{table="(\w+)"\} ([\d.]+)$', re.M)

pytestmark = pytest.mark.timeout(3_600)


@pytest.fixture(scope="module")
def full(containers: Containers) -> Iterator[Containers]:
    """The stack with the profile `full`."""
    containers.up("--profile", "full")
    yield containers


def running(profiles: set[str]) -> list[str]:
    """The services that stay up in any of these profiles; Grafana only if its image is available."""
    return [
        name
        for name, one in COMPOSE.items()
        if one["restart"] == "unless-stopped"
        and (not one.get("profiles") or profiles & {*one["profiles"]})
        and (OFFICIAL or name != "grafana")
    ]


def test_the_whole_stack_is_healthy(full: Containers) -> None:
    assert [name for name in running({"full"}) if not is_healthy(full.state(name))] == []


def test_prometheus_reaches_all_that_it_scrapes_and_evaluates_every_rule(full: Containers) -> None:
    # Streams are off by default, but their target exists.
    until(
        lambda: {job: health for job, health in targets(full).items() if job != "streams"},
        lambda found: len(found) > 1 and {*found.values()} == {"up"},
        within_s=PATIENCE_S,
        what="every target of Prometheus up",
        every_s=2.0,
    )
    address = f"{prometheus(full)}/api/v1/alertmanagers"
    assert len(requests.get(address, timeout=10).json()["data"]["activeAlertmanagers"]) == 1
    address = f"{prometheus(full)}/api/v1/rules"
    rules = requests.get(address, timeout=10).json()["data"]["groups"]
    assert rules and all(rule["health"] != "err" for group in rules for rule in group["rules"])


def prometheus(full: Containers) -> str:
    return f"http://127.0.0.1:{full.settings.ports.number('prometheus')}"


def targets(full: Containers) -> dict[str, str]:
    """Job → whether Prometheus reaches it."""
    told = requests.get(f"{prometheus(full)}/api/v1/targets", timeout=10).json()["data"]
    return {one["labels"]["job"]: one["health"] for one in told["activeTargets"]}


def test_the_page_answers_and_links_to_what_is_published(full: Containers) -> None:
    url = json.loads(full.run("urls", "--format", "json").stdout)["app"]
    base, _, token = url.partition("/#token=")
    assert base == f"http://127.0.0.1:{full.settings.ports.number('app')}"
    assert requests.get(base, timeout=60).ok
    headers = {"x-headwater-token": token}
    told = requests.get(f"{base}/api/health", headers=headers, timeout=60).json()
    states = {row[0]: row[1] for row in told["services"]["rows"]}
    assert states["trino"] == states["superset"] == "ready"
    assert told["links"]["trino"] == f"http://127.0.0.1:{full.settings.ports.number('trino')}"


def test_superset_has_the_dashboards(full: Containers) -> None:
    told = json.loads(full.run("superset", "login", "--format", "json").stdout)
    assert told["url"] == f"http://127.0.0.1:{full.settings.ports.number('superset')}"
    assert requests.get(f"{told['url']}/health", timeout=60).ok
    # It sleeps and is healthy only after it has imported all of them.
    assert is_healthy(full.state("superset-assets"))


@pytest.mark.skipif(not OFFICIAL, reason="Grafana's image cannot be made on this machine")
def test_grafana_loads_every_dashboard_and_rule(full: Containers) -> None:
    settings = full.settings
    base = f"http://127.0.0.1:{settings.ports.number('grafana')}"
    admin = ("admin", settings.secret("grafana_admin_password"))

    def uids(path: str) -> set[str]:
        answer = requests.get(f"{base}{path}", auth=admin, timeout=10)
        answer.raise_for_status()
        return {one["uid"] for one in answer.json()}

    folder = ROOT / "grafana"
    dashboards = {
        json.loads(p.read_text())["uid"] for p in folder.glob("generated/dashboards/*.json")
    }
    groups = yaml.safe_load((folder / "generated/grafana-rules.yaml").read_text())["groups"]
    until(
        lambda: uids("/api/search?type=dash-db"),
        lambda found: found == dashboards,
        within_s=PATIENCE_S,
        what="the dashboards in Grafana",
    )
    rules = {rule["uid"] for group in groups for rule in group["rules"]}
    assert uids("/api/v1/provisioning/alert-rules") == rules


def test_the_verifier_and_the_intake_start_beside_it_by_their_names(full: Containers) -> None:
    full.up("--only", "verifier", "intake")
    assert [n for n in ("verifier", "streams", "intake") if not is_healthy(full.state(n))] == []
    until(
        lambda: targets(full)["streams"],
        lambda health: health == "up",
        within_s=PATIENCE_S,
        what="Prometheus reaching the streams",
        every_s=2.0,
    )


def test_an_event_that_is_sent_to_the_intake_is_a_row_in_trino(full: Containers) -> None:
    word = uuid.uuid4().hex
    event = {"key": word, "data": {"service": "shop", "message": f"paid {word}"}}
    assert intake_of(full, "app_logs").post([event], PATIENCE_S).accepted == 1
    statement = f"SELECT message FROM silver.app_logs WHERE message = 'paid {word}'"
    until(
        lambda: full.query(statement),
        lambda rows: rows == [(f"paid {word}",)],
        within_s=PATIENCE_S,
        what="the event in Trino",
        every_s=0.5,
    )


@pytest.mark.parametrize("reader", ["deltalake-reader", "spark-reader", "java-reader"])
def test_a_reader_prints_silver_and_its_run_is_a_row_in_trino(
    full: Containers, reader: str
) -> None:
    [[count]] = full.query("SELECT count(*) FROM silver.movies")
    lines = full.read(reader, "movies", "--state", f"/state/{reader}").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == count and {row["change"] for row in rows} == {"read"}
    # It continues from the state of the previous run, so it prints nothing.
    assert full.read(reader, "movies", "--state", f"/state/{reader}") == ""
    until(
        lambda: full.query(f"SELECT count(*) FROM silver.app_runs WHERE service = '{reader}'"),
        lambda found: found[0][0] >= 2,
        within_s=PATIENCE_S,
        what="the reader's runs in Trino",
        every_s=0.5,
    )


def test_the_verifier_finds_every_table_equal(full: Containers) -> None:
    url = f"http://127.0.0.1:{full.settings.ports.number('verifier_metrics')}/metrics"
    until(
        lambda: {
            name: float(n) for name, n in VERIFIED.findall(requests.get(url, timeout=10).text)
        },
        lambda found: "movies" in found and set(found.values()) == {1.0},
        within_s=PATIENCE_S,
        what="the verifier's verdicts",
        every_s=2.0,
    )


def test_all_profiles_keep_to_their_memory_and_nothing_was_ended_for_it(full: Containers) -> None:
    names = running({"full", "verifier", "streams"})
    used = full.memory_mb(names)
    print(f"memory in use, MB: {used}, in all {sum(used.values()):.0f}")
    assert sum(used.values()) <= FULL_MB_MAX
    assert {name: full.oom_kills(name) for name in names} == dict.fromkeys(names, 0)


def test_the_demo_shows_every_hop_and_leaves_nothing_running(full: Containers) -> None:
    shown = full.run("demo", "--once", timeout_s=PATIENCE_S)
    for hop in ("Kafka", "bronze", "silver", "Trino"):
        assert hop in shown.stdout
    assert '"running"' not in full.run("status", "--format", "json").stdout
