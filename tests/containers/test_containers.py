"""The compose file, really run: healthy, fresh, equal, and so again after each container was killed."""

from __future__ import annotations

import json
import os
import random
import signal
from typing import Any

import pytest
import requests
import yaml

from tests.containers.conftest import OFFICIAL, Containers
from tests.support import tpcb
from tests.support.stack import ROOT
from tests.support.waiting import until

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
CORE = [
    name
    for name, one in COMPOSE.items()
    if one["restart"] == "unless-stopped" and not one.get("profiles")
]
ONESHOTS = ["config", "store", "connectors"]
BRANCHES, ACCOUNTS = 2, 2_000
SOON_S, RECOVERY_S = 120.0, 300.0


def state(containers: Containers) -> dict[str, dict[str, Any]]:
    """Service → what the daemon knows of its container's state."""
    return {name: containers.inspect(name)["State"] for name in CORE}


def is_healthy(one: dict[str, Any]) -> bool:
    return bool(one["Running"]) and one["Health"]["Status"] == "healthy"


def test_every_container_is_healthy_and_every_oneshot_completed(containers: Containers) -> None:
    assert [name for name, one in state(containers).items() if not is_healthy(one)] == []
    assert [containers.inspect(name)["State"]["ExitCode"] for name in ONESHOTS] == [0, 0, 0]


def test_an_edit_reaches_trino(containers: Containers) -> None:
    edit_and_await(containers, "seen from afar")


def test_silver_equals_the_source(containers: Containers) -> None:
    verdicts = containers.verify()
    assert verdicts and {row["verdict"] for row in verdicts} == {"equal"}


def test_what_is_published_can_be_reached_and_nothing_off_loopback(containers: Containers) -> None:
    for name in CORE:
        for bindings in containers.inspect(name)["NetworkSettings"]["Ports"].values():
            assert {binding["HostIp"] for binding in bindings or []} <= {"127.0.0.1"}
    assert containers.query("SELECT 1") == [(1,)]


def test_no_container_runs_as_root_or_with_more_memory_than_it_may(containers: Containers) -> None:
    for name in CORE:
        found = containers.inspect(name)
        limit = int(COMPOSE[name]["mem_limit"].removesuffix("m")) * 1024 * 1024
        assert found["HostConfig"]["Memory"] == limit
        assert not found["State"]["OOMKilled"]
        assert containers.docker("exec", found["Id"], "id", "-u").strip() != "0"


def test_no_secret_shows_in_what_the_daemon_tells(containers: Containers) -> None:
    password = containers.settings.secret("postgres_password")
    for name in [*CORE, *ONESHOTS]:
        assert password not in containers.docker("inspect", containers.container(name))


def test_silver_equals_the_source_after_each_container_was_killed_under_load(
    containers: Containers, seed: int
) -> None:
    dsn = containers.settings.source_dsn
    tpcb.create(dsn, branches=BRANCHES, accounts=ACCOUNTS)
    with containers.source() as source:
        source.execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
    containers.await_tables("pgbench_accounts", within_s=RECOVERY_S)
    order = random.Random(seed).sample(CORE, len(CORE))
    load = tpcb.running(
        dsn, clients=1, branches=BRANCHES, accounts=ACCOUNTS, seed=seed, reconnect_s=120
    )
    with load as counts:
        for name in order:
            before = sum(counts)
            until(
                lambda before=before: sum(counts) > before,  # type: ignore[misc]
                within_s=RECOVERY_S,
                what=f"a transaction before {name} is killed",
            )
            kill(containers, name)
    verdicts = containers.verify(*tpcb.TABLES)
    assert [row["verdict"] for row in verdicts] == ["equal"] * len(tpcb.TABLES)


def test_down_and_up_keep_the_data_and_the_streams_go_on(containers: Containers) -> None:
    edit_and_await(containers, "before the stop")
    containers.run("down", timeout_s=300)
    containers.up()
    edit_and_await(containers, "after the start")
    assert {row["verdict"] for row in containers.verify()} == {"equal"}


def edit_and_await(containers: Containers, title: str) -> None:
    """Change one movie's title and wait until Trino answers with it."""
    with containers.source() as source:
        source.execute("UPDATE movies SET title = %s WHERE movie_id = 1", [title])
    until(
        lambda: containers.query("SELECT title FROM movies WHERE movie_id = 1"),
        lambda rows: rows == [(title,)],
        within_s=SOON_S,
        what="the new title in Trino",
    )


def kill(containers: Containers, name: str) -> None:
    """SIGKILL a container's first process, and wait until Docker has it healthy again."""
    before = containers.inspect(name)["State"]["Pid"]
    os.kill(before, signal.SIGKILL)
    until(
        lambda: containers.inspect(name)["State"],
        lambda one: is_healthy(one) and one["Pid"] != before,
        within_s=RECOVERY_S,
        what=f"{name} healthy again",
        every_s=1.0,
    )


def test_the_whole_stack_is_healthy_and_prometheus_reaches_all_that_it_scrapes(
    containers: Containers,
) -> None:
    containers.up("--profile", "full")
    base = f"http://127.0.0.1:{containers.settings.port('prometheus')}"
    until(
        lambda: requests.get(f"{base}/api/v1/targets", timeout=10).json()["data"]["activeTargets"],
        lambda targets: {one["health"] for one in targets} == {"up"},
        within_s=RECOVERY_S,
        what="every target of Prometheus up",
        every_s=2.0,
    )
    rules = requests.get(f"{base}/api/v1/rules", timeout=10).json()["data"]["groups"]
    assert rules and all(rule["health"] != "err" for group in rules for rule in group["rules"])


def test_the_page_answers_and_links_to_what_is_published(containers: Containers) -> None:
    base = f"http://127.0.0.1:{containers.settings.port('app')}"
    assert requests.get(base, timeout=10).ok
    told = requests.get(f"{base}/api/health", timeout=60).json()
    states = {row[0]: row[1] for row in told["services"]["rows"]}
    assert states["trino"] == states["superset"] == "ready"
    assert told["links"]["trino"] == f"http://127.0.0.1:{containers.settings.port('trino')}"


def test_superset_has_the_dashboards(containers: Containers) -> None:
    told = json.loads(containers.run("superset", "login", "--format", "json").stdout)
    assert requests.get(f"{told['url']}/health", timeout=30).ok
    assert is_healthy(containers.inspect("superset-assets")["State"])


@pytest.mark.skipif(not OFFICIAL, reason="Grafana's image cannot be made on this machine")
def test_grafana_loads_every_dashboard_and_rule(containers: Containers) -> None:
    settings = containers.settings
    base = f"http://127.0.0.1:{settings.port('grafana')}"
    admin = ("admin", settings.secret("grafana_admin_password"))

    def uids(path: str) -> set[str]:
        answer = requests.get(f"{base}{path}", auth=admin, timeout=10)
        answer.raise_for_status()
        return {one["uid"] for one in answer.json()}

    folder = ROOT / "grafana"
    dashboards = {json.loads(p.read_text())["uid"] for p in folder.glob("dashboards/*.json")}
    groups = yaml.safe_load((folder / "provisioning/alerting/rules.yaml").read_text())["groups"]
    until(
        lambda: uids("/api/search?type=dash-db"),
        lambda found: found == dashboards,
        within_s=SOON_S,
        what="the dashboards in Grafana",
    )
    rules = {rule["uid"] for group in groups for rule in group["rules"]}
    assert uids("/api/v1/provisioning/alert-rules") == rules


@pytest.mark.slow
def test_the_demo_shows_every_hop_and_leaves_nothing_running(containers: Containers) -> None:
    containers.run("down", timeout_s=300)
    shown = containers.run("demo", "--once", timeout_s=900)
    for hop in ("Kafka", "bronze", "silver", "Trino"):
        assert hop in shown.stdout
    rows = containers.run("status", "--format", "json").stdout
    assert '"running"' not in rows
