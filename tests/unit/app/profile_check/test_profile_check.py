"""`profile check`: the result for each service, with what to do, and without secrets."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.environment.settings import Settings, checked, only
from app.environment.toml_files import SettingsError
from app.profile_check.checked_part import Checked
from app.profile_check.part_checks import PARTS, check_profile
from app.profile_check.reachable import check_http, check_mail, check_tcp

SECRET = "hunter2hunter2"


def settings(tmp_path: Path, **given: Any) -> Settings:
    return checked(tmp_path, given, origin="the test")


def of(part: str, found: list[Checked]) -> list[Checked]:
    return [one for one in found if one.part == part]


@contextmanager
def serving(answers: dict[str, str]) -> Iterator[int]:
    """A mail server with these answers: command → answer; "" is its greeting."""

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(answers[""].encode() + b"\r\n")
            for line in self.rfile:
                word = line.split()[0].decode().upper() if line.split() else ""
                self.wfile.write(
                    {"QUIT": "221 bye", **answers}.get(word, "250 fine").encode() + b"\r\n"
                )

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_profile_that_names_nothing_is_the_stacks_own(tmp_path: Path) -> None:
    found = list(check_profile(settings(tmp_path)))
    assert {one.part for one in found} == set(PARTS)
    assert not any(one.stands_in_the_way for one in found)


def test_a_source_that_is_not_there_stands_in_the_way(tmp_path: Path, closed_port: int) -> None:
    dsn = f"postgresql://me:{SECRET}@127.0.0.1:{closed_port}/shop"
    [found] = of("source", list(check_profile(settings(tmp_path, source_dsn=dsn))))
    assert found.stands_in_the_way and "refused" in found.observed
    assert SECRET not in repr(found)


def test_a_store_that_is_not_there_stands_in_the_way(tmp_path: Path, closed_port: int) -> None:
    own = settings(
        tmp_path,
        s3_endpoint=f"http://127.0.0.1:{closed_port}",
        s3_access_key="me",
        s3_secret_key=SECRET,
    )
    found = of("store", list(check_profile(own)))
    assert any(one.stands_in_the_way for one in found)
    assert SECRET not in repr(found)


def test_a_kafka_that_is_not_there_stands_in_the_way(tmp_path: Path, closed_port: int) -> None:
    own = settings(
        tmp_path,
        kafka_address=f"127.0.0.1:{closed_port}",
        kafka_security="SASL_SSL",
        kafka_user="me",
        kafka_password=SECRET,
    )
    [found] = of("kafka", list(check_profile(own)))
    assert found.stands_in_the_way and "refuses connections" in found.observed
    assert SECRET not in repr(found)


def test_a_master_of_spark_that_is_not_there_stands_in_the_way(
    tmp_path: Path, closed_port: int
) -> None:
    own = settings(tmp_path, spark_master=f"spark://127.0.0.1:{closed_port}")
    [found] = of("spark", list(check_profile(own)))
    assert found.stands_in_the_way and "refuses connections" in found.observed and found.todo


def test_a_folder_of_contracts_that_is_missing_is_named(tmp_path: Path) -> None:
    [found] = of("contracts", list(check_profile(settings(tmp_path, contracts_dir="none"))))
    assert found.stands_in_the_way and str(tmp_path / "none") in found.observed


def test_a_webhook_is_named_by_its_host_alone(tmp_path: Path, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}/hooks/{SECRET}"
    [found] = of("alerts", list(check_profile(settings(tmp_path, alert_webhook_url=url))))
    assert found.stands_in_the_way and SECRET not in repr(found)


def test_a_port_without_tls_is_told(closed_port: int) -> None:
    with serving({"": "220 hello"}) as port:
        observed, todo = check_http(f"https://127.0.0.1:{port}/x")
        assert "speaks no TLS" in observed and todo
        assert check_http(f"http://127.0.0.1:{port}/x") == ("", "")
        assert check_tcp(f"127.0.0.1:{port}", default_port=1) == ("", "")
    assert "refuses" in check_tcp(f"127.0.0.1:{closed_port}", default_port=1)[0]


def test_a_mail_server_is_asked_with_the_user_and_password_and_sent_nothing() -> None:
    greeted = {"": "220 hello", "EHLO": "250-me\r\n250 AUTH PLAIN"}
    with serving({**greeted, "AUTH": "235 in"}) as port:
        assert check_mail(f"127.0.0.1:{port}", "me", SECRET) == ("", "")
    with serving({**greeted, "AUTH": "535 no"}) as port:
        observed, todo = check_mail(f"127.0.0.1:{port}", "me", SECRET)
        assert "refuses the user me" in observed and "alert_smtp_password" in todo
        assert SECRET not in observed + todo
    with serving({"": "220 hello", "EHLO": "250 me"}) as port:
        assert "offers no log-in" in check_mail(f"127.0.0.1:{port}", "me", SECRET)[0]
        assert check_mail(f"127.0.0.1:{port}", None, None) == ("", "")


def test_each_mistake_of_a_file_has_its_line_and_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('# mine\nkafka_broker = 3\n\ntopic_partitions = "many"\n')
    with pytest.raises(SettingsError) as caught:
        only(file)
    text = str(caught.value)
    assert "`kafka_broker` is unknown (in line 2 of" in text
    assert "did you mean `kafka_brokers`?" in text
    assert "`topic_partitions`" in text and "(in line 4 of" in text


def test_the_command_ends_with_1_where_something_stands_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    file = tmp_path / "own.toml"
    file.write_text("")
    assert CliRunner().invoke(app, ["profile", "check", str(file)]).exit_code == 0
    file.write_text(f'spark_master = "spark://127.0.0.1:{closed_port}"\n')
    ended = CliRunner().invoke(app, ["profile", "check", str(file), "--format", "json"])
    assert ended.exit_code == 1 and "refuses connections" in ended.output


def test_a_hive_metastore_that_does_not_answer_is_told(tmp_path: Path, closed_port: int) -> None:
    own = settings(tmp_path, metastore="hive", metastore_uri=f"thrift://127.0.0.1:{closed_port}")
    [found] = of("metastore", list(check_profile(own)))
    assert found.status == "missing"
    assert "metastore_uri" in found.todo


def test_a_trino_that_is_away_is_told_without_its_password(
    tmp_path: Path, closed_port: int
) -> None:
    url = f"https://me:{SECRET}@127.0.0.1:{closed_port}"
    own = settings(tmp_path, trino_url=url, connect_url=url, superset_url=url, prometheus_remote_write_url=url)  # fmt: skip
    found = list(check_profile(own))
    for part in ("trino", "connect", "superset", "prometheus"):
        [row] = of(part, found)
        assert row.status == "missing", row
    assert SECRET not in repr(found)
