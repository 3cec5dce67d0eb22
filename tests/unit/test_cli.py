"""The command line: documented, quick to start, one shape of error, data on stdout."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from app.cli import checks
from app.cli.main import app, show
from app.cli.printing import Format, Steps, print_object, print_rows
from app.cli.stack import duration
from app.errors import HeadwaterError
from app.settings import ROOT

DOCUMENT = ROOT / "app" / "README.md"


def run(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env={**os.environ, "HEADWATER_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def commands() -> dict[str, list[str]]:
    """Full command name → its options' long names."""
    found: dict[str, list[str]] = {}

    def visit(command: Any, prefix: str) -> None:
        for name, child in command.commands.items():
            if hasattr(child, "commands"):
                visit(child, f"{prefix}{name} ")
                continue
            options = [word for p in child.params for word in p.opts if word.startswith("--")]
            found[f"{prefix}{name}"] = [word for word in options if word != "--help"]

    visit(typer.main.get_command(app), "")
    return found


def reference() -> str:
    """The chapter `Commands` of the document."""
    return DOCUMENT.read_text().split("\n## Commands\n")[1].split("\n## ")[0]


def test_every_command_and_option_is_documented() -> None:
    text = reference()
    missing = [
        f"{command} {option}".strip()
        for command, options in commands().items()
        for option in ["", *options]
        if not re.search(rf"^\| `{re.escape(command)}\b.*{re.escape(option)}", text, re.MULTILINE)
    ]
    assert missing == []


def test_no_command_is_documented_that_is_not_there() -> None:
    known = commands()
    told = re.findall(
        r"^\| `([a-z]+(?: (?:list|show|replay|discard|init|check|plan|login|import|export))?)",
        reference(),
        re.MULTILINE,
    )
    assert [name for name in told if name not in known] == []


def test_starting_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys; import app.cli.main; print(' '.join(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    loaded = set(ended.stdout.split())
    heavy = {"requests", "psutil", "pyspark", "pyarrow", "kafka", "psycopg", "sqlalchemy"}
    assert loaded & heavy == set()


def test_a_mistake_is_told_without_a_stack_trace(tmp_path: Path) -> None:
    ended = run("status", "nonsense", home=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("there is no service `nonsense`\n  hint: known are ")
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_wrong_setting_is_told_without_a_stack_trace(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("colour = 1\n")
    ended = run("status", home=tmp_path)
    assert ended.returncode == 1
    assert "colour" in ended.stderr
    assert "  hint: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_debug_shows_the_stack_trace_wherever_it_stands(tmp_path: Path) -> None:
    for words in (["--debug", "status", "nonsense"], ["status", "nonsense", "--debug"]):
        assert "Traceback" in run(*words, home=tmp_path).stderr


def test_a_defect_asks_for_a_report_instead_of_printing_a_trace(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    ended = run("status", home=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("unexpected IsADirectoryError")
    assert "--debug" in ended.stderr


def test_status_and_urls_speak_json(tmp_path: Path) -> None:
    rows = json.loads(run("status", "--format", "json", home=tmp_path).stdout)
    assert {"service", "state", "pid", "port", "memory_mb", "uptime_s", "restarts",
            "last_error"} == set(rows[0])  # fmt: skip
    # A machine without Prometheus or Grafana is told so, and runs the rest.
    assert {row["state"] for row in rows} - {"unavailable"} == {"stopped"}
    urls = json.loads(run("urls", "--format", "json", home=tmp_path).stdout)
    assert all(isinstance(value, str) for value in urls.values())
    assert {"kafka", "s3", "trino", "postgres"} <= set(urls)


def test_a_stack_without_dashboards_says_so_in_status(tmp_path: Path) -> None:
    ended = run("status", home=tmp_path)
    assert "Superset is left out: `./headwater up --dashboards` starts it" in ended.stderr
    assert "superset" not in ended.stdout
    (tmp_path / "settings.toml").write_text("dashboards = true\n")
    ended = run("status", home=tmp_path)
    assert "left out" not in ended.stderr
    assert "superset" in ended.stdout


def test_a_port_offset_moves_every_address(tmp_path: Path) -> None:
    plain = json.loads(run("urls", "--format", "json", home=tmp_path).stdout)
    ended = run("urls", "--format", "json", home=tmp_path, HEADWATER_PORT_OFFSET="1000")
    moved = json.loads(ended.stdout)
    assert moved["kafka"] == plain["kafka"].replace(":19092", ":20092")


def test_down_and_wipe_of_nothing_are_quiet_and_fine(tmp_path: Path) -> None:
    ended = run("down", "--wipe", home=tmp_path)
    assert ended.returncode == 0
    assert "nothing was running" in ended.stderr
    assert ended.stdout == ""


def test_services_without_only_are_refused(tmp_path: Path) -> None:
    ended = run("up", "kafka", home=tmp_path)
    assert ended.returncode == 2
    assert "up --only kafka" in ended.stderr


def test_the_default_tiers_take_only_the_smoke_of_the_faults() -> None:
    runs = checks.phases([])
    assert [[Path(each).name for each in run if "/tests/" in each] for run in runs] == [
        ["unit"],
        ["spark", "integration"],
        ["e2e", "faults"],
    ]
    assert all("smoke or not faults" in run for run in runs)
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
        ([1, 0], 1, 2),  # the rest is still run
        ([0, 5], 0, 2),  # nothing of that name in one of them
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


def test_a_pipe_is_told_now_and_then_what_is_waited_for() -> None:
    out, now = io.StringIO(), [0.0]
    with Steps(out, clock=lambda: now[0]) as steps:
        steps.note("begun")
        for second in range(0, 40, 5):
            now[0] = float(second)
            steps.waiting(f"waiting {second}")
    assert out.getvalue().splitlines() == ["begun", "waiting 15", "waiting 30"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, None), (0, "0s"), (59, "59s"), (310, "5m 10s"), (11_099, "3h 4m"), (190_900, "2d 5h")],
)
def test_uptimes_read_well(seconds: int | None, text: str | None) -> None:
    assert duration(seconds) == text


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
    ended = run(*verb.split(), home=tmp_path)
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
        "the object store does not answer\n  detail: Connection refused (os error 111)\n"
        "  hint: see `./headwater status s3`\n"
    )


def test_a_service_that_has_written_nothing_is_said_to_have(tmp_path: Path) -> None:
    ended = run("logs", "kafka", home=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "kafka has written nothing yet\n"
