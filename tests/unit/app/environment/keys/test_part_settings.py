"""A user's own services: what the stack leaves out, how it connects, and that no password is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.environment.settings import Settings, checked
from app.environment.toml_files import SettingsError
from app.launcher.control import Stack
from app.metrics.monitoring.own_prometheus import CONFIGURATION, adapt, adapted
from app.query.trino_connection import connect, explain

PASSWORD = "hunter2hunter2"
CONNECT = f"https://me:{PASSWORD}@connect.example.com:8443"
TRINO = f"https://me:{PASSWORD}@trino.example.com:8443?verify=/etc/ca.pem"
SUPERSET = f"https://me:{PASSWORD}@superset.example.com"
RECEIVER = f"https://me:{PASSWORD}@metrics.example.com/api/v1/write"
OWN = {"connect_url": CONNECT, "trino_url": TRINO, "superset_url": SUPERSET, "dashboards": True}


def settings(folder: Path, **given: Any) -> Settings:
    return checked(folder, given, origin="the test")


def test_a_part_of_ones_own_is_not_started_and_what_works_with_it_is(tmp_path: Path) -> None:
    shipped = set(Stack(settings(tmp_path, dashboards=True)).select([]))
    own = set(Stack(settings(tmp_path, **OWN)).select([]))
    assert shipped - own == {"connect", "trino", "superset", "superset-db", "superset-init"}
    assert {"connectors", "tables", "superset-assets"} < own


def test_the_audit_is_of_the_stacks_own_trino(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a Trino of your own"):
        settings(tmp_path, trino_url=TRINO, audit=True)


def test_a_part_of_ones_own_is_among_the_urls_without_its_user(tmp_path: Path) -> None:
    assert settings(tmp_path, **OWN).profile.own_parts() == {
        "connect": "https://connect.example.com:8443",
        "trino": "https://trino.example.com:8443?verify=/etc/ca.pem",
        "superset": "https://superset.example.com",
    }


def test_several_workers_of_one_connect_cluster_are_given_with_commas(tmp_path: Path) -> None:
    own = settings(tmp_path, connect_url="http://a@one:8083,http://a@two:8083/")
    assert own.connect_urls == ["http://a@one:8083", "http://a@two:8083"]


@pytest.mark.parametrize("key", ["connect_url", "trino_url", "superset_url"])
@pytest.mark.parametrize("url", [f"me:{PASSWORD}@host", f"ftp://me:{PASSWORD}@host", "https://"])
def test_a_wrong_url_is_refused_without_being_shown(tmp_path: Path, key: str, url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(tmp_path, **{key: url})
    assert key in str(refused.value) and PASSWORD not in str(refused.value)


def test_trino_is_asked_as_the_url_says_and_its_errors_hold_no_password() -> None:
    connection: Any = connect(TRINO, user="registrar")
    assert (connection.host, connection.port, connection.http_scheme) == (
        "trino.example.com",
        8443,
        "https",
    )
    assert connection.user == "me"
    assert connection._http_session.verify == "/etc/ca.pem"
    assert connection.auth.get_exceptions is not None
    assert PASSWORD not in str(explain(OSError("down"), TRINO))


def test_the_stacks_own_trino_is_asked_as_whom_the_caller_names() -> None:
    connection: Any = connect("http://127.0.0.1:1", user="registrar")
    assert (connection.user, connection.auth) == ("registrar", None)


def shipped() -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "10s"},
        "scrape_configs": [{"job_name": one} for one in ("metrics", "connect", "trino")],
    }


def test_prometheus_asks_no_part_that_is_not_the_stacks(tmp_path: Path) -> None:
    found = adapted(shipped(), settings(tmp_path, **OWN))
    assert [job["job_name"] for job in found["scrape_configs"]] == ["metrics"]
    assert "remote_write" not in found


def test_what_is_sent_to_another_prometheus_names_the_stack(tmp_path: Path) -> None:
    path = tmp_path / CONFIGURATION
    path.write_text(yaml.safe_dump(shipped()))
    adapt(tmp_path, settings(tmp_path, prometheus_remote_write_url=RECEIVER))
    found = yaml.safe_load(path.read_text())
    assert found["global"]["external_labels"] == {"stack": "headwater"}
    [receiver] = found["remote_write"]
    assert receiver["url"] == "https://metrics.example.com/api/v1/write"
    assert receiver["basic_auth"] == {"username": "me", "password": PASSWORD}
    assert path.stat().st_mode & 0o077 == 0
