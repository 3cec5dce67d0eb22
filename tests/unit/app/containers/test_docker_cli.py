"""`--docker`: the command lines that it makes from verbs, and its message without Docker."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.containers.compose import Compose, check_source
from app.environment.settings import ROOT
from app.errors import HeadwaterError

# Replaces Docker: records its arguments, and answers like a running project.
RECORDER = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
  *" ps "*) echo '{{"Service": "kafka", "Name": "hw-kafka-1", "State": "running", "Health": "healthy", "ExitCode": 0, "Status": "Up", "Publishers": null}}'
    echo '{{"Service": "app", "Name": "hw-app-1", "State": "'"${{PAGE:-exited}}"'", "Health": "", "ExitCode": 0, "Status": "Up", "Publishers": null}}' ;;
  *" run "*) exit 7 ;;
  *" config "*) echo '{{"services": {{"app": {{"ports": [{{"target": 14090, "published": "18090"}}]}}}}}}' ;;
  *" exec -T app cat /etc/headwater/run/app/service_secrets.json") echo '{{"page_token": "t0ken"}}' ;;
esac
"""


class Recorded:
    """Run the command line with a recording `docker` on its path."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "docker.log"
        self.home = folder / "home"
        program = folder / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(RECORDER.format(log=self.log))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.path = f"{program.parent}:/usr/bin:/bin"

    def run(
        self, *arguments: str, path: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            cwd=ROOT,
            env={"PATH": path or self.path, "HEADWATER_HOME": str(self.home), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def called(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.partition("docker.env ")[2] or line for line in lines if "version" not in line]


@pytest.fixture
def docker(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def test_up_makes_the_environment_file_and_waits_for_health(docker: Recorded) -> None:
    ended = docker.run("--docker", "up", "--profile", "full", "--port-offset", "100")
    assert ended.returncode == 0, ended.stderr
    assert docker.called() == ["up --build --wait --remove-orphans"]
    path = docker.home / "docker.env"
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().splitlines()
    assert {"COMPOSE_PROFILES=full", "HEADWATER_PORT_TRINO=18180"} <= set(lines)


def test_jobs_are_a_profile_and_a_setting_until_they_are_left_out(docker: Recorded) -> None:
    for option, profiles, jobs in (("--jobs", "full,jobs", "true"), ("--no-jobs", "full", "")):
        ended = docker.run("--docker", "up", "--profile", "full", option)
        assert ended.returncode == 0, ended.stderr
        lines = (docker.home / "docker.env").read_text().splitlines()
        assert {f"COMPOSE_PROFILES={profiles}", f"HEADWATER_JOBS={jobs}"} <= set(lines)


def test_services_are_named_after_only_and_started_beside_the_others(docker: Recorded) -> None:
    ended = docker.run("--docker", "up", "--only", "verifier", "intake")
    assert ended.returncode == 0, ended.stderr
    assert docker.called() == ["up --build --wait --remove-orphans verifier intake"]


def test_urls_has_the_page_with_its_token_where_it_runs(docker: Recorded) -> None:
    assert json.loads(docker.run("--docker", "urls", "-F", "json").stdout) == {}
    told = docker.run("--docker", "urls", "-F", "json", PAGE="running")
    assert json.loads(told.stdout) == {"app": "http://127.0.0.1:18090/#token=t0ken"}


@pytest.mark.parametrize("name", ["lamp", "log-sender"])
def test_a_service_that_no_container_runs_is_refused(docker: Recorded, name: str) -> None:
    ended = docker.run("--docker", "up", "--only", name)
    assert ended.returncode == 1
    assert f"`{name}`" in ended.stderr and "hint:" in ended.stderr
    assert docker.called() == []


def test_a_verb_on_data_runs_beside_the_stack_with_its_exit_code(docker: Recorded) -> None:
    ended = docker.run("sql", "SELECT 1", "--docker", "--format", "csv")
    assert ended.returncode == 7
    assert docker.called()[-1].endswith("run --rm --no-deps -T headwater sql SELECT 1 --format csv")


def test_down_keeps_the_volumes_unless_they_are_to_be_wiped(docker: Recorded) -> None:
    docker.run("--docker", "down")
    docker.run("--docker", "down", "--wipe")
    kept, wiped = (line for line in docker.called() if " down " in line)
    assert "--volumes" not in kept
    assert "--volumes" in wiped


def test_status_prints_what_compose_knows(docker: Recorded) -> None:
    ended = docker.run("--docker", "status", "--format", "csv")
    assert ended.stdout.splitlines()[1] == "kafka,running,healthy,0,Up,,hw-kafka-1"


def test_docker_runs_no_tests(docker: Recorded) -> None:
    ended = docker.run("--docker", "test")
    assert ended.returncode == 1
    assert "runs natively only" in ended.stderr and "Traceback" not in ended.stderr


def test_a_machine_without_docker_is_told_what_to_do(docker: Recorded, tmp_path: Path) -> None:
    ended = docker.run("--docker", "up", path=str(tmp_path / "nothing"))
    assert ended.returncode == 1
    assert "`docker` was not found" in ended.stderr and "hint:" in ended.stderr


def test_two_homes_are_two_projects(tmp_path: Path) -> None:
    one, two, own = Compose(tmp_path / "a"), Compose(tmp_path / "b"), Compose()
    assert len({one.project, two.project, own.project}) == 3
    assert own.env_file == ROOT / ".env"


def test_the_environment_file_keeps_what_else_stands_in_it(tmp_path: Path) -> None:
    compose = Compose(tmp_path)
    compose.set_environment({"HEADWATER_SOURCE_DSN": "postgresql://me:pa$s@db/shop"})
    compose.env_file.write_text(compose.env_file.read_text() + "# mine\nHEADWATER_PORT_S3=1\n")
    compose.set_environment({"HEADWATER_PORT_S3": "2"})
    assert compose.environment() == {
        "HEADWATER_SOURCE_DSN": "postgresql://me:pa$s@db/shop",
        "HEADWATER_PORT_S3": "2",
    }
    text = compose.env_file.read_text()
    assert "# mine" in text and "'postgresql://me:pa$s@db/shop'" in text


@pytest.mark.parametrize("dsn", ["postgresql://me@localhost/shop", "postgresql://me@127.0.0.1/x"])
def test_a_source_that_a_container_would_look_for_in_itself_is_refused(dsn: str) -> None:
    with pytest.raises(HeadwaterError, match=r"host\.docker\.internal"):
        check_source(dsn)
