"""`headwater job` on the command line, without a stack."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command import headwater

RIGHT = 'schedule = "0 2 * * *"\n[tasks.a]\nkind = "sql"\nstatement = "SELECT 1"\n'


SHIPPED = [
    "churn",
    "default_risk",
    "recommend",
    "top_movies",
]  # of the demo store, which is in the stack of an empty home


def jobs(home: Path, **texts: str) -> Path:
    folder = home / "jobs"
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def test_job_check_names_each_mistake_and_exits_1_and_a_right_file_alone_exits_0(
    tmp_path: Path,
) -> None:
    folder = jobs(tmp_path, right=RIGHT, wrong=RIGHT + "retry = 1\n")
    ended = headwater("job", "check", "--format", "json", home=tmp_path)
    assert ended.returncode == 1, ended.stderr
    wrong, *others = json.loads(ended.stdout)
    assert wrong == {
        "file": str(folder / "wrong.toml"),
        "line": 5,
        "verdict": "wrong",
        "problem": "unknown key `retry`",
        "hint": "did you mean `retries`?",
    }
    assert {one["verdict"] for one in others} == {"right"}
    assert [Path(one["file"]).stem for one in others] == sorted([*SHIPPED, "right"])
    ended = headwater("job", "check", str(folder / "right.toml"), home=tmp_path)
    assert ended.returncode == 0, ended.stdout


def test_job_list_shows_right_jobs_and_says_what_is_wrong_with_others(tmp_path: Path) -> None:
    folder = jobs(tmp_path, right=RIGHT, wrong="tasks = 1\n")
    ended = headwater("job", "list", "--format", "json", home=tmp_path)
    assert ended.returncode == 1
    *shipped, row = sorted(json.loads(ended.stdout), key=lambda one: one["job"] == "right")
    assert (row["job"], row["schedule"], row["tasks"]) == ("right", "0 2 * * *", 1)
    assert [one["job"] for one in shipped] == SHIPPED
    assert f"{folder / 'wrong.toml'}:1: `tasks`" in ended.stderr


def test_a_home_with_a_source_of_its_own_has_its_own_jobs_only(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('source_dsn = "postgresql://ann@127.0.0.1:1/shop"\n')
    jobs(tmp_path, right=RIGHT)
    rows = json.loads(headwater("job", "list", "--format", "json", home=tmp_path).stdout)
    assert [row["job"] for row in rows] == ["right"]


def test_a_file_of_the_home_takes_the_place_of_a_job_of_its_name(tmp_path: Path) -> None:
    folder = jobs(tmp_path, top_movies=RIGHT)
    rows = json.loads(headwater("job", "list", "--format", "json", home=tmp_path).stdout)
    files = {row["job"]: row["file"] for row in rows}
    assert files["top_movies"] == str(folder / "top_movies.toml")


def test_job_show_gives_the_whole_job_or_says_which_name_was_meant(tmp_path: Path) -> None:
    jobs(tmp_path, right=RIGHT)
    shown = json.loads(headwater("job", "show", "right", "-F", "json", home=tmp_path).stdout)
    assert (shown["schedule"], shown["tasks"]["a"]["statement"]) == ("0 2 * * *", "SELECT 1")
    ended = headwater("job", "show", "rihgt", home=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "there is no job `rihgt`\n  hint: did you mean `right`?" in ended.stderr
