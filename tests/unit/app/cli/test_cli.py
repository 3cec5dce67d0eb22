"""The command line is documented, starts fast, has one form of errors, and prints data on stdout."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from app.cli.failures import show
from app.cli.needs import without_services
from app.cli.verbs import checks
from app.environment.settings import ROOT
from app.errors import HeadwaterError
from app.printing import Format, Steps, duration, print_object, print_rows
from app.services.service import load_services
from tests.support.command import headwater
from tests.support.waiting import until


@pytest.mark.parametrize(
    "module", ["app.cli.main", "app.environment.settings", "app.jobs.job_folder"]
)
def test_what_every_command_begins_with_imports_nothing_heavy(module: str) -> None:
    code = f"import sys; import {module}; print(' '.join(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    loaded = set(ended.stdout.split())
    heavy = {"requests", "psutil", "pyspark", "pyarrow", "numpy", "kafka", "psycopg", "sqlalchemy"}
    assert loaded & heavy == set()


def test_a_mistake_is_told_without_a_stack_trace(tmp_path: Path) -> None:
    ended = headwater("status", "nonsense", home=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("there is no service `nonsense`\n  hint: known are ")
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_wrong_setting_is_told_without_a_stack_trace(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("colour = 1\n")
    ended = headwater("status", home=tmp_path)
    assert ended.returncode == 1
    assert "colour" in ended.stderr
    assert "  hint: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_debug_shows_the_stack_trace_wherever_it_stands(tmp_path: Path) -> None:
    for words in (["--debug", "status", "nonsense"], ["status", "nonsense", "--debug"]):
        assert "Traceback" in headwater(*words, home=tmp_path).stderr


def test_a_defect_asks_for_a_report_instead_of_printing_a_trace(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    ended = headwater("status", home=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("unexpected IsADirectoryError")
    assert "--debug" in ended.stderr


def test_status_and_urls_speak_json(tmp_path: Path) -> None:
    rows = json.loads(headwater("status", "--format", "json", home=tmp_path).stdout)
    shared = {"service", "state", "pid", "port", "memory_mb", "uptime_s", "restarts",
              "last_error", "hint", "kind"}  # fmt: skip
    assert all(shared <= set(row) for row in rows)
    # Without Prometheus or Grafana a message says so, and the rest runs.
    states = {row["state"] for row in rows if row["kind"] == "service"}
    assert states - {"unavailable"} == {"stopped"}
    unknown = [row["service"] for row in rows if row["kind"] == "unknown"]
    assert unknown == ["silver.*", "snapshots", "alerts"]
    urls = json.loads(headwater("urls", "--format", "json", home=tmp_path).stdout)
    assert all(isinstance(value, str) for value in urls.values())
    assert {"kafka", "s3", "trino", "postgres"} <= set(urls)


def test_a_check_of_a_stack_that_is_down_ends_with_its_own_code_and_the_reason(
    tmp_path: Path,
) -> None:
    for words in (["status", "--check"], ["status", "kafka", "--check", "--format", "json"]):
        ended = headwater(*words, home=tmp_path)
        assert ended.returncode == 4
        assert ended.stderr == "this stack is not running; start it: ./headwater up\n"
    assert [row["service"] for row in json.loads(ended.stdout)] == ["kafka"]


def test_a_stack_without_dashboards_says_so_in_status(tmp_path: Path) -> None:
    ended = headwater("status", home=tmp_path)
    assert "Superset is left out: `./headwater up --dashboards` starts it" in ended.stderr
    assert "superset" not in ended.stdout
    (tmp_path / "settings.toml").write_text("dashboards = true\n")
    ended = headwater("status", home=tmp_path)
    assert "left out" not in ended.stderr
    assert "superset" in ended.stdout


def test_a_port_offset_moves_every_address(tmp_path: Path) -> None:
    plain = json.loads(headwater("urls", "--format", "json", home=tmp_path).stdout)
    ended = headwater("urls", "--format", "json", home=tmp_path, HEADWATER_PORT_OFFSET="1000")
    moved = json.loads(ended.stdout)
    assert moved["kafka"] == plain["kafka"].replace(":19092", ":20092")


def test_down_and_wipe_of_nothing_are_quiet_and_fine(tmp_path: Path) -> None:
    ended = headwater("down", "--wipe", home=tmp_path)
    assert ended.returncode == 0
    assert "nothing was running" in ended.stderr
    assert ended.stdout == ""


def test_from_goes_only_with_verbs_that_act_on_one_source(tmp_path: Path) -> None:
    refused = headwater("--from", "erp", "down", home=tmp_path)
    assert refused.returncode == 2
    assert "`down` acts on the whole home" in refused.stderr.replace("\n", " ")


def test_services_without_only_are_refused(tmp_path: Path) -> None:
    ended = headwater("up", "kafka", home=tmp_path)
    assert ended.returncode == 2
    assert "up --only kafka" in ended.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--without", "kafka"], "`kafka` cannot be left out"),
        (["--without", "kafka"], "connect"),
        (["--without", "lamp"], "there is no service `lamp`"),
        (["--only", "silver", "--without", "s3"], "needed by"),
    ],
)
def test_a_service_that_another_needs_is_not_left_out(
    tmp_path: Path, words: list[str], told: str
) -> None:
    ended = headwater("up", *words, home=tmp_path)
    assert ended.returncode == 1 and told in ended.stderr, ended.stderr
    assert not (tmp_path / "data").exists(), "nothing was started"


def test_services_are_left_out_with_those_that_need_them() -> None:
    services = load_services(ROOT)
    selected = ["postgres", "store", "app", "metrics"]
    assert without_services(selected, [], services) == selected
    assert without_services(selected, ["app"], services) == ["postgres", "store", "metrics"]
    assert without_services(selected, ["app,store"], services) == ["postgres", "metrics"]


def test_a_fault_gets_its_kills_seed_and_time_and_prints_its_report_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    ran = []

    def run(phases: list[list[str]], options: list[str], out: object = None) -> int:
        ran.append((Path(phases[0][0]).name, options))
        Path(os.environ["HEADWATER_FAULT_OUT"]).write_text('{"kills": 9}\n')
        return 0

    monkeypatch.setattr(checks, "run_phases", run)
    with pytest.raises(typer.Exit) as ended:
        checks.fault("soak", minutes=20, kills=100, hours=0.0, seed=7, fmt=Format.json)
    assert ended.value.exit_code == 0
    assert capsys.readouterr().out == '{"kills": 9}\n'
    assert ran == [("test_soak.py", ["-s", f"--timeout={100 * 120 + 2_400}"])]
    chosen = {name: os.environ[f"HEADWATER_{name}"] for name in ("SEED", "FAULT_KILLS")}
    assert chosen == {"SEED": "7", "FAULT_KILLS": "100"}


def test_the_default_tiers_take_only_the_smoke_of_the_faults() -> None:
    runs = checks.phases([])
    assert [[Path(each).name for each in run if "/tests/" in each] for run in runs] == [
        ["unit"],
        ["spark", "integration"],
        ["e2e", "faults"],
    ]
    assert all("not slow and (smoke or not faults)" in run for run in runs)
    assert checks.phases(["e2e", "bench"])[1] == [str(ROOT / "tests" / "bench")]
    assert checks.phases(["faults"]) == [[str(ROOT / "tests" / "faults")]]
    with pytest.raises(HeadwaterError, match="no test tier `uint`"):
        checks.phases(["uint"])


def test_workers_are_as_many_as_cores_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(cores: int, gib: int) -> list[str]:
        monkeypatch.setattr("os.cpu_count", lambda: cores)
        memory = SimpleNamespace(total=gib << 30)
        monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
        return checks.spread("loadfile")

    assert workers(cores=2, gib=24)[:4] == ["-n", "2", "--dist", "loadfile"]
    assert workers(cores=8, gib=15)[1] == "2"
    assert workers(cores=64, gib=256)[1] == str(checks.WORKERS_MAX)
    assert workers(cores=2, gib=8) == []


@pytest.mark.parametrize(
    ("ends", "code", "ran"),
    [
        ([0, 0], 0, 2),
        ([1, 0], 1, 2),  # the others still run
        ([0, 5], 0, 2),  # one of them has no test of that name
        ([5, 5], 5, 2),
        ([2, 0], 2, 1),  # Ctrl-C
    ],
)
def test_runs_of_tests_go_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: list[int], code: int, ran: int
) -> None:
    ending = "import sys; open(sys.argv[1], 'w').close(); sys.exit(int(sys.argv[2]))"
    monkeypatch.setattr(checks, "PYTEST", ("-c", ending))
    runs = [[str(tmp_path / f"ran_{number}"), str(end)] for number, end in enumerate(ends)]
    assert checks.run_phases(runs, []) == code
    assert len(list(tmp_path.glob("ran_*"))) == ran


ROW = [None, True, Decimal("1.50"), dt.datetime(2026, 11, 21, 1, 2, 3), b"\x01\xff", 'a,"b"', [1]]
COLUMNS = ["none", "flag", "price", "at", "raw", "text", "list"]


def printed(fmt: str) -> str:
    out = io.StringIO()
    print_rows(COLUMNS, [ROW], fmt, out=out)
    return out.getvalue()


def test_json_keeps_types_and_digits() -> None:
    assert json.loads(printed("json")) == [
        {
            "none": None, "flag": True, "price": "1.50", "at": "2026-11-21 01:02:03",
            "raw": "01ff", "text": 'a,"b"', "list": [1],
        }
    ]  # fmt: skip


def test_csv_can_be_read_back() -> None:
    header, row = csv.reader(io.StringIO(printed("csv")))
    assert header == COLUMNS
    assert row == ["", "true", "1.50", "2026-11-21 01:02:03", "01ff", 'a,"b"', "[1]"]


def test_a_table_in_a_pipe_is_not_cut() -> None:
    out = io.StringIO()
    print_rows(["text", "number"], [["x" * 500, 1], [None, 20]], out=out)
    lines = out.getvalue().splitlines()
    assert "x" * 500 in lines[1]
    assert lines[2].startswith("NULL")
    assert lines[1].rstrip().endswith(" 1")
    assert lines[2].rstrip().endswith("20")


def test_an_object_is_flat_json() -> None:
    out = io.StringIO()
    print_object({"a": 1, "b": None}, Format.json, out=out)
    assert json.loads(out.getvalue()) == {"a": 1, "b": None}


def test_a_pipe_gets_a_line_each_five_seconds_with_what_is_waited_for_and_since_when() -> None:
    out, now = io.StringIO(), [0.0]
    steps = Steps(out, clock=lambda: now[0])
    steps.note("begun")
    for second in range(13):
        now[0] = float(second)
        steps.waiting("waiting for trino" if second > 3 else "waiting for kafka")
    steps.rest()
    now[0] = 60.0
    steps.renew()
    assert out.getvalue().splitlines() == [
        "begun",
        "waiting for trino",
        "waiting for trino (6 s)",
    ]


def test_a_call_that_lasts_does_not_silence_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.printing.WAITING_LINE_EVERY_S", 0.05)
    monkeypatch.setattr("app.printing.RENEW_S", 0.01)
    out = io.StringIO()
    with Steps(out) as steps:
        steps.waiting("reading")
        until(
            lambda: out.getvalue().count("reading"),
            lambda count: count >= 3,
            within_s=20,
            what="lines while nobody calls",
        )
    until(
        lambda: [thread for thread in threading.enumerate() if thread.name == "progress"],
        lambda left: left == [],
        within_s=20,
        what="the end of the thread",
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (310, "5m 10s"), (11_099, "3h 4m"), (190_900, "2d 5h")],
)
def test_an_uptime_is_written_in_few_letters(seconds: int, text: str) -> None:
    assert duration(seconds, compact=True) == text


def test_durations_read_as_people_say_them() -> None:
    assert [duration(s) for s in (0.4, 59.6, 200, 3_840)] == [
        "0 s",
        "1 min 0 s",
        "3 min 20 s",
        "1 h 4 min",
    ]


@pytest.mark.unhurried
@pytest.mark.parametrize(
    "verb",
    [
        "verify",
        "verify --bronze",
        "watch",
        "resume orders",
        "rebuild orders",
        "preflight",
        "quarantine list",
        "quarantine show hw.public.a/0/1",
        "quarantine replay orders",
    ],
)
def test_a_verb_that_needs_the_stack_says_at_once_that_it_is_not_running(
    tmp_path: Path, verb: str
) -> None:
    ended = headwater(*verb.split(), home=tmp_path)
    assert ended.returncode == (3 if verb.startswith("verify") else 1)
    assert ended.stderr.startswith("this stack is not running\n")
    assert "hint: start it: ./headwater up" in ended.stderr
    assert not ended.stdout


def test_a_store_that_is_away_is_told_in_a_line_and_without_colours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = "Kernel error -> Generic S3 error\n \x1b[31m↳\x1b[0m Connection refused (os error 111)\n"
    show(OSError(tree), debug=False)
    assert capsys.readouterr().err == (
        "the object store does not answer as it should\n  detail: Connection refused (os error 111)\n"
        "  hint: see `./headwater status s3`\n"
    )


def test_a_service_that_has_written_nothing_is_said_to_have(tmp_path: Path) -> None:
    ended = headwater("logs", "kafka", home=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "kafka has written nothing yet\n"
