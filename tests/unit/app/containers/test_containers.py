"""The files that `config` renders for containers, and the scripts that start the services."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.containers import container_config as containers
from app.environment.secret_variables import SECRETS
from app.environment.settings import ROOT, Settings, checked, load
from app.errors import HeadwaterError
from app.services.service import Service, load_services
from app.serving.serving_address import owner_dsn

OWN_DSN = "postgresql://me:s3cret@db.example:5432/shop"
# Kind of `secrets` in a service.toml → the stack's secrets that it lets a service see.
ALLOWED = {
    "kafka": set(),  # brokers in containers need none
    "source": {"postgres_password"},
    "store": {"store_password"},
    "capture": {"capture_password"},
    "connect": {"connect_password"},
    "trino": set(),  # Trino in containers needs none
    "openlineage": set(),
    "object-store": {"s3_access_key", "s3_secret_key"},
    "mask": {"mask_secret"},
    "superset-admin": {"superset_admin_password"},
    "serving": {"serving_db_password", "serving_reader_password"},
}
OWN = {name: one for name, one in load_services(ROOT).items() if one.container.code}
own_service = pytest.mark.parametrize("name", sorted({*OWN} - {*containers.NATIVE_ONLY}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of `config`, with only a cluster and jobs set, so that every service has work; rendered once."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    command = [sys.executable, "-m", "app.containers.container_config"]
    environment = {**kept, "HEADWATER_HOME": str(home), "HEADWATER_SPARK_WORKERS": "2"}
    environment["HEADWATER_JOBS"] = "true"
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)
    return home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for rendering, without the files that other processes write for `config`."""
    for name in list(os.environ):
        if name.startswith("HEADWATER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    monkeypatch.setattr(containers, "_prepare_here", lambda *_: None)
    return tmp_path


def in_containers(home: Path, **given: object) -> Settings:
    return checked(home, {"network": "containers", **given}, origin="the test")


def test_every_service_gets_its_scripts_and_its_files(whole: Path) -> None:
    for service in load_services(ROOT).values():
        folder = whole / "run" / service.name
        for script in ("start", "healthy"):
            assert (folder / script).stat().st_mode & 0o777 == 0o755
        for name in service.files:
            assert (folder / name).stat().st_mode & 0o777 == 0o644
    # Written by their preparing programs, which the images lack.
    for name in ("prometheus/rules.yml", "alertmanager/alertmanager.yml", "grafana/grafana.ini"):
        assert (whole / "run" / name).stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_every_script_is_one_that_its_shell_can_read(whole: Path) -> None:
    scripts = [*whole.glob("run/*/start"), *whole.glob("run/*/healthy")]
    assert scripts
    for script in scripts:
        shell = script.read_text().splitlines()[0].removeprefix("#!")
        read = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
        assert read.returncode == 0, f"{script}: {read.stderr}"


def test_services_reach_each_other_by_name_and_listen_for_others(home: Path) -> None:
    settings = in_containers(home)
    assert settings.ports.bind == "0.0.0.0"
    assert settings.kafka.addresses == "kafka:19092"
    assert settings.trino_url == "http://trino:18080"
    assert "@postgres:15432/store" in settings.source_dsn
    containers.render_all(settings)
    broker = (home / "run" / "kafka" / "server.properties").read_text()
    assert "advertised.listeners=PLAINTEXT://kafka:19092" in broker
    assert "127.0.0.1" not in broker
    assert "samenet" in (home / "run" / "postgres" / "pg_hba.conf").read_text()


def test_workers_of_a_cluster_know_their_heads_by_name_and_idle_where_none_is_asked_for(
    home: Path,
) -> None:
    containers.render_all(in_containers(home))
    for name in ("spark-master", "spark-worker-2", "trino-worker-2"):
        assert "exec sleep infinity" in (home / "run" / name / "start").read_text()
    containers.render_all(in_containers(home, spark_workers=2, trino_workers=1))
    second = (home / "run" / "spark-worker-2" / "start").read_text()
    assert "--host spark-worker-2" in second and "spark://spark-master:14060" in second
    assert "TRINO_ADDRESS=trino-worker\n" in (home / "run" / "trino-worker" / "start").read_text()
    assert "discovery.uri=http://trino:18080" in (
        (home / "run" / "trino-worker" / "config.properties").read_text()
    )
    assert "exec sleep infinity" in (home / "run" / "trino-worker-2" / "start").read_text()
    assert "HEADWATER_SPARK_DRIVER_HOST=silver\n" in (
        (home / "run" / "silver" / "start").read_text()
    )


def test_more_workers_than_compose_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_SPARK_WORKERS", "3")
    with pytest.raises(HeadwaterError, match="spark_workers is 3") as caught:
        containers.settings_from_environment(tmp_path)
    assert "docker-compose.yml has 2 of `spark-worker`" in str(caught.value)


def test_prometheus_finds_the_targets_of_others_in_its_own_folder(whole: Path) -> None:
    own = whole / "run" / "prometheus"
    text = (own / "prometheus.yml").read_text()
    read = {path for path in re.findall(r'"([^"]+/targets[^"]*\.json)"', text) if str(own) in path}
    assert {Path(path).stem for path in read} == {"alertmanager", "kafka", "streams"}
    for path in read:
        assert (
            Path(path).read_text() == (whole / "run" / Path(path).stem / "targets.json").read_text()
        )


@pytest.mark.parametrize("name", sorted(load_services(ROOT)))
def test_a_file_of_another_service_is_named_only_where_a_copy_is_named_beside_it(
    whole: Path, name: str
) -> None:
    others = re.compile(rf'{re.escape(str(whole))}/run/(?!{name}/)[\w-]+/[^\s"\']+')
    for path in (whole / "run" / name).glob("*"):
        if path.is_file():
            for line in path.read_text().splitlines():
                assert not others.search(line) or f"{whole}/run/{name}/" in line, f"{path}: {line}"


def test_nothing_that_is_rendered_says_where_this_machine_keeps_its_things(whole: Path) -> None:
    # Only the home and the clone differ here from a container's folders.
    elsewhere = [str(Path(sys.prefix).resolve()), str(Path.home() / ".cache")]
    for path in whole.glob("run/*/start"):
        assert not [place for place in elsewhere if place in path.read_text()], path


def test_the_page_links_to_where_people_reach_the_services(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_PORT_TRINO", "28080")
    settings = containers.settings_from_environment(home)
    assert (settings.ports.number("trino"), settings.ports.published("trino")) == (18080, 28080)
    assert settings.ports.published("superset") == 18088


def test_secrets_are_made_once(home: Path) -> None:
    containers.main()
    before = (home / "secrets.json").read_text()
    containers.main()
    assert (home / "secrets.json").read_text() == before


def test_a_source_of_ones_own_leaves_the_embedded_one_idle(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_SOURCE_DSN", OWN_DSN)
    assert containers.main() == 0
    assert "exec sleep infinity" in (home / "run" / "postgres" / "start").read_text()
    assert "exit 0" in (home / "run" / "postgres" / "healthy").read_text()
    assert "exit 0" in (home / "run" / "store" / "start").read_text()
    assert "db.example" in (home / "run" / "connectors" / "start").read_text()


def test_volumes_with_the_data_of_another_source_are_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert containers.main() == 0
    monkeypatch.setenv("HEADWATER_SOURCE_DSN", OWN_DSN)
    assert containers.main() == 1
    told = capsys.readouterr().err
    assert "the embedded store" in told and "db.example:5432/shop" in told
    assert "s3cret" not in told


def test_a_setting_that_is_not_given_any_more_is_its_default_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_SILVER_RETENTION_MINUTES", "99")
    containers.main()
    assert "RETENTION_MINUTES=99" in (home / "run" / "silver" / "start").read_text()
    monkeypatch.setenv("HEADWATER_SILVER_RETENTION_MINUTES", "")
    containers.main()
    assert "RETENTION_MINUTES=15" in (home / "run" / "silver" / "start").read_text()


def test_a_wrong_setting_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWATER_TOPIC_PARTITIONS", "many")
    assert containers.main() == 1
    assert "topic_partitions" in capsys.readouterr().err


def test_an_unknown_port_is_an_error(home: Path) -> None:
    with pytest.raises(HeadwaterError, match="no service declares a port named `lamp`"):
        in_containers(home).ports.host("lamp")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_a_start_script_marks_its_service_ready_at_the_line_that_says_so(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    monkeypatch.setattr(containers, "SCRATCH", scratch)
    monkeypatch.setattr(containers, "READY_FILE", scratch / "ready")
    settings = in_containers(home)
    services = load_services(ROOT)
    words = [
        "/bin/sh",
        "-c",
        "echo first pass done >&2; while [ ! -e ready ]; do :; done; echo out",
    ]
    fake = services["tables"].model_copy(update={"command": words})
    script = tmp_path / "start"
    script.write_text(containers.start_script(fake, settings, lambda name: name))
    ended = subprocess.run(["bash", str(script)], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "out\n", "first pass done\n")
    assert (scratch / "ready").exists()


def allowed_to(service: Service) -> set[str]:
    """The secrets of its service.toml and of the files that it lists, by kind or by name."""
    files = "".join((service.folder / name).read_text() for name in service.files.values())
    texts = f"{service.command} {service.environment} {files}"
    named = re.findall(r"\$\{secret\.(\w+)\}", texts)
    return {*named}.union(*(ALLOWED[kind] for kind in service.secrets))


def texts_of(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.rglob("*")) if path.is_file())


def test_the_readers_are_told_where_the_lake_is_and_its_keys(whole: Path) -> None:
    script = whole / "run" / "readers" / "start"
    told = subprocess.run([script, "env"], capture_output=True, text=True, check=True, env={})
    found = dict(line.split("=", 1) for line in told.stdout.splitlines())
    secrets = json.loads((whole / "secrets.json").read_text())
    assert found["HEADWATER_S3_SECRET_KEY"] == secrets["s3_secret_key"]
    assert found["HEADWATER_INTAKE_TOKEN"] == secrets["intake_token"]
    assert found["HEADWATER_S3_ENDPOINT"].startswith("http://s3:")
    assert found["HEADWATER_INTAKE_URL"].startswith("http://intake:")


@own_service
def test_a_service_finds_no_secret_beyond_those_that_it_declares(whole: Path, name: str) -> None:
    rendered, allowed = texts_of(whole / "run" / name), allowed_to(OWN[name])
    known: dict[str, str] = json.loads((whole / "secrets.json").read_text())
    assert allowed <= set(known)
    assert {secret for secret, value in known.items() if value in rendered} == allowed


@own_service
def test_the_home_of_a_service_answers_for_what_it_declares_and_makes_nothing(
    whole: Path, name: str
) -> None:
    folder = whole / "run" / name
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    stack, own = load(whole), load(folder)
    allowed = allowed_to(OWN[name])
    asked: dict[str, Callable[[Settings], object]] = {
        "source": lambda s: s.source_dsn,
        "store": lambda s: s.store_dsn,
        "capture": lambda s: s.capture_dsn,
        "kafka": lambda s: s.kafka,
        "connect": lambda s: s.connect_url,
        "trino": lambda s: s.trino_url,
        "openlineage": lambda s: s.profile.lineage_receiver,
        "object-store": lambda s: s.store,
        "mask": lambda s: s.secret("mask_secret"),
        "superset-admin": lambda s: s.secret("superset_admin_password"),
        "serving": lambda s: s.secret("serving_db_password"),
    }
    assert set(asked) == set(SECRETS)
    for kind, ask in asked.items():
        if ALLOWED[kind] <= allowed:
            assert ask(own) == ask(stack)
        else:
            with pytest.raises(HeadwaterError, match="which it does not declare"):
                ask(own)
    with pytest.raises(HeadwaterError, match="`lamp`, which it does not declare"):
        own.secret("lamp")
    assert own.contracts_dir == stack.contracts_dir
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before


def test_what_a_user_gave_as_a_secret_is_only_where_it_is_declared(home: Path) -> None:
    capture_dsn = "postgresql://cap:c4pture@db.example:5432/shop?sslpassword=k3y"
    given = {
        "source_dsn": OWN_DSN,
        "capture_dsn": capture_dsn,
        "s3_endpoint": "https://s3.example",
        "s3_access_key": "acc3ss",
        "s3_secret_key": "s3kr1t",
        "alert_slack_url": "https://slack.example/h00k",
        "alert_smtp_password": "m41l",
        "serving_dsn": "mysql://publisher:s3rv3d@db.example/shop?ssl_ca=/ca.pem",
        "jobs": True,
    }
    settings = in_containers(home, **given)
    containers.render_all(settings)
    of_kind = {
        "s3cret": {"source", "store"},
        "c4pture": {"capture"},
        "k3y": {"capture"},
        "acc3ss": {"object-store"},
        "s3kr1t": {"object-store"},
        "h00k": set(),
        "m41l": set(),
        "s3rv3d": {"serving"},
    }
    rendered = [name for name in OWN if (home / "run" / name / "settings.toml").exists()]
    assert {"connectors", "capture", "tables", "metrics", "verifier"} <= {*rendered}
    for name in rendered:
        text, kinds = texts_of(home / "run" / name), {*OWN[name].secrets}
        for value, those in of_kind.items():
            assert (value in text) == bool(those & kinds), f"{value} in {name}"
    assert load(home / "run" / "capture").capture_dsn == capture_dsn
    assert owner_dsn(load(home / "run" / "jobs-code")) == given["serving_dsn"]
    assert not load(home / "run" / "tables").profile.embedded_source
    with pytest.raises(HeadwaterError, match="which it does not declare"):
        _ = load(home / "run" / "tables").source_dsn


def test_a_source_without_a_dsn_for_capturing_lets_the_capture_role_in_without_the_owners_password(
    home: Path,
) -> None:
    settings = in_containers(home, source_dsn=OWN_DSN)
    containers.render_all(settings)
    assert load(home / "run" / "verifier").capture_dsn == settings.capture_dsn
    assert "s3cret" not in texts_of(home / "run" / "verifier")


def test_what_earlier_versions_kept_in_the_home_moves_to_the_volumes_that_are_mounted_over_it(
    tmp_path: Path,
) -> None:
    beneath, home = tmp_path / "beneath", tmp_path / "home"
    for folder in (beneath, home):
        for name in ("contracts", "verify"):
            (folder / name).mkdir(parents=True)
    (beneath / "contracts" / "movies.yml").write_text("old")
    (beneath / "contracts" / "ratings.yml").write_text("old")
    (home / "contracts" / "ratings.yml").write_text("new")
    (beneath / "verify" / "bronze.json").write_text("{}")
    (home / "secrets.json").write_text("{}")
    containers.move_to_volumes(home, beneath)
    assert not (home / "contracts" / "movies.yml").exists(), "another home's"
    (beneath / "secrets.json").hardlink_to(home / "secrets.json")
    containers.move_to_volumes(home, beneath)
    assert (home / "contracts" / "movies.yml").read_text() == "old"
    assert (home / "contracts" / "ratings.yml").read_text() == "new"
    assert [path.name for path in (home / "verify").iterdir()] == ["bronze.json"]
