"""The page: who may ask what, and what it makes of a change."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.health.connector_health import ConnectWorkers
from app.hops import HOPS
from app.page.answers import Refused
from app.page.page import SCRIPTS, STATIC, Parts, make_page
from app.page.request_guard import BODY_BYTES_MAX, SECURITY_HEADERS, TOKEN_HEADER
from app.page.source_rows import Change, Column, Source, Table, statement_of
from app.page.stack_health import Health
from app.page.trino_sql import Trino

PORT = 14090
HERE = f"http://127.0.0.1:{PORT}"
TOKEN = "t0ken"
NOWHERE = "http://127.0.0.1:1"
LINKS = {"grafana": "http://127.0.0.1:2", "trino": "http://127.0.0.1:3"}
# Answers with what it was given.
ECHO = [
    sys.executable,
    "-c",
    "import json, sys; print(json.dumps([sys.argv[1:], json.load(sys.stdin)]))",
]
EDIT = {"changes": [{"op": "delete", "table": "public.films", "key": {"id": "1"}}]}
FILMS = Table(
    "public",
    "odd films",
    (
        Column("id", "integer", False, False, True, True),
        Column('ti"tle', "character varying(9)", True, False, False, False),
    ),
    ("id",),
)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[TestClient]:
    """The page over a source that does not answer."""
    source = Source("postgresql://nobody@127.0.0.1:1/none", "headwater")
    trino = Trino(NOWHERE)
    health = Health(tmp_path, trino, LINKS, NOWHERE)
    app = make_page(Parts(source, trino, health, ECHO, ECHO), ports=[PORT], token=TOKEN)
    with TestClient(app, base_url=HERE, headers={TOKEN_HEADER: TOKEN}) as client:
        yield client


def without_token(page: TestClient) -> TestClient:
    """Another user of the machine, who may open ports and has no token."""
    return TestClient(page.app, base_url=HERE)


def message(answer: Any) -> str:
    return str(answer.json()["error"]["message"])


def test_the_page_and_its_files_are_served_to_anybody_without_the_token_in_them(
    page: TestClient,
) -> None:
    page = without_token(page)
    found = page.get("/")
    assert found.status_code == 200 and TOKEN not in found.text
    assert {name: found.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    files = {path.name for path in STATIC.iterdir()} - {"index.html"}
    for name in files:
        assert page.get(f"/{name}").text == (STATIC / name).read_text()
        assert TOKEN not in page.get(f"/{name}").text
    assert {*SCRIPTS, "page.css"} == files


def test_the_page_takes_the_hops_from_their_one_list(page: TestClient) -> None:
    script = without_token(page).get("/hops.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    means = json.loads(script.text.removeprefix("export const MEANS = ").removesuffix(";\n"))
    assert list(means) == [hop.name for hop in HOPS]
    html = (STATIC / "index.html").read_text() + (STATIC / "flow.js").read_text()
    assert not re.search(r"[\"'>](debezium|bronze|silver)[\"'<]", html)


def test_the_page_loads_nothing_from_elsewhere_and_makes_no_html_of_values() -> None:
    script = "".join((STATIC / name).read_text() for name in SCRIPTS)
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "http:",
    ):
        assert word not in script
    html = (STATIC / "index.html").read_text()
    assert "://" not in html and "onclick" not in html and "<script>" not in html


@pytest.mark.parametrize(
    "path",
    ["/../service.toml", "/%2e%2e/service.toml", "/static/page.js", "/page.js/x", "//etc/passwd",
     "/docs", "/openapi.json", "/api/nothing"],
)  # fmt: skip
def test_no_other_path_is_served(page: TestClient, path: str) -> None:
    assert page.get(path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "", f"127.0.0.1:{PORT}.evil.example"])  # fmt: skip
def test_another_name_is_not_served(page: TestClient, host: str) -> None:
    for path in ("/", "/api/tables"):
        assert page.get(path, headers={"host": host}).status_code == 421


def test_the_names_of_this_machine_are_served(page: TestClient) -> None:
    for host in (f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"):
        assert page.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
     {"sec-fetch-site": "same-site"}, {"origin": f"https://127.0.0.1:{PORT}"}],
)  # fmt: skip
def test_another_sites_request_is_refused_even_with_the_token(
    page: TestClient, headers: dict[str, str]
) -> None:
    sent = page.post("/api/edit", json=EDIT, headers={TOKEN_HEADER: TOKEN, **headers})
    assert sent.status_code == 403 and "another site" in message(sent)
    assert page.get("/api/tables", headers=headers).status_code == 403


def test_a_link_from_another_site_to_the_page_works(page: TestClient) -> None:
    assert page.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


@pytest.mark.parametrize("token", [None, "", "T0ken", "t0ken ", "é"])
def test_whatever_is_asked_needs_the_token(page: TestClient, token: str | None) -> None:
    headers = [] if token is None else [(TOKEN_HEADER.encode(), token.encode("latin-1"))]
    stranger = without_token(page)
    asked = [route for route in routes_of(page) if route[1].startswith("/api/")]
    assert len(asked) > 10
    for method, path in [*asked, ("DELETE", "/"), ("POST", "/api/ready"), ("GET", "/api/nothing")]:
        if (method, path) != ("GET", "/api/ready"):
            answer = stranger.request(method, path, json=EDIT, headers=headers)
            assert answer.status_code == 401 and "./headwater urls" in message(answer), path
    assert stranger.get("/api/ready").json() == {"ready": True}


def routes_of(page: TestClient) -> list[tuple[str, str]]:
    """Each method and path that the application answers."""
    routes = page.app._app.routes  # type: ignore[attr-defined]
    return [(method, route.path) for route in routes for method in route.methods]


def test_a_form_of_another_site_is_no_json(page: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = {TOKEN_HEADER: TOKEN, "content-type": kind}
        sent = page.post("/api/edit", content=json.dumps(EDIT), headers=headers)
        assert sent.status_code == 415


def test_a_body_that_is_too_large_is_refused_told_or_not(page: TestClient) -> None:
    headers = {TOKEN_HEADER: TOKEN, "content-type": "application/json"}
    told = page.post("/api/sql", content=b" " * (BODY_BYTES_MAX + 1), headers=headers)

    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 1000 + 1):
            yield b" " * 1000

    untold = page.post("/api/sql", content=pieces(), headers=headers)
    assert [told.status_code, untold.status_code] == [413, 413]


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/api/edit", {"changes": []}, "changes"),
        ("/api/edit", {"changes": EDIT["changes"] * 101}, "changes"),
        ("/api/edit", {"changes": [{"op": "drop", "table": "a.b"}]}, "changes.0.op"),
        ("/api/edit", {**EDIT, "more": 1}, "more"),
        ("/api/edit", {"changes": [{"op": "update", "table": "a.b", "values": {"a": 1}}]}, "values.a"),
        ("/api/sql", {"sql": ""}, "sql"),
        ("/api/sql", {}, "sql"),
        ("/api/sql", [], ""),
        ("/api/quarantine", {"action": "drop", "entries": ["a/0/1"]}, "action"),
        ("/api/quarantine", {"action": "replay", "entries": []}, "entries"),
        ("/api/quarantine", {"action": "replay", "entries": ["orders"]}, "entries.0"),
        ("/api/quarantine", {"action": "replay", "entries": ["a/0/1", "a/0/2"], "values": {"v": "1"}}, "one entry"),
        ("/api/quarantine", {"action": "discard", "entries": ["a/0/1"], "values": {"v": "1"}}, "one entry"),
        ("/api/quarantine", {"action": "replay", "entries": ["a/0/1"], "values": {}}, "values"),
        ("/api/quarantine", {"action": "replay", "entries": ["a/0/1"], "values": {"v": 1}}, "values.v"),
        ("/api/compare", {"table": "a.b", "keys": [{"id": 1}]}, "keys.0.id"),
        ("/api/compare", {"table": "a.b", "keys": [{}] * 201}, "keys"),
    ],
)  # fmt: skip
def test_bad_input_is_told_with_its_place(
    page: TestClient, path: str, body: Any, told: str
) -> None:
    sent = page.post(path, json=body, headers={TOKEN_HEADER: TOKEN})
    assert sent.status_code == 422 and told in message(sent)


@pytest.mark.parametrize("query", ["", "?table=a&limit=0", "?table=a&limit=1000", "?table=a&offset=-1", "?table=" + "a" * 300])  # fmt: skip
def test_a_bad_query_is_told(page: TestClient, query: str) -> None:
    assert page.get(f"/api/rows{query}").status_code == 422


def test_a_source_that_is_away_is_told_without_its_address(page: TestClient) -> None:
    answer = page.get("/api/tables")
    assert (answer.status_code, message(answer)) == (503, "the source database does not answer")


def test_quarantine_is_asked_by_the_command_with_what_was_chosen(page: TestClient) -> None:
    chosen = {"action": "replay", "entries": ["hw.public.a b/0/1", "-x/0/2"]}
    headers = {TOKEN_HEADER: TOKEN}
    assert page.post("/api/quarantine", json=chosen, headers=headers).status_code == 422
    chosen["entries"] = ["hw.public.a/0/1", "--all/0/2"]
    [words, _] = page.post("/api/quarantine", json=chosen, headers=headers).json()
    assert words[:2] == ["quarantine", "replay"]
    # None of them is taken for an option.
    assert words[words.index("--") + 1 :] == chosen["entries"]
    [listed, _] = page.get("/api/quarantine").json()["entries"]
    assert listed[:2] == ["quarantine", "list"]
    [shown, _] = page.get("/api/quarantine/entry", params={"name": "hw.public.a/0/1"}).json()
    assert shown[-2:] == ["--", "hw.public.a/0/1"]
    assert page.get("/api/quarantine/entry", params={"name": "a/b"}).status_code == 422
    [all_of_them, _] = page.get("/api/quarantine?resolved=true").json()["entries"]
    assert "--resolved" in all_of_them and "--resolved" not in listed


def test_values_for_a_replay_are_no_arguments(page: TestClient) -> None:
    values = {"v": "--all", "at": None}
    body = {"action": "replay", "entries": ["hw.public.a/0/1"], "values": values}
    answer = page.post("/api/quarantine", json=body, headers={TOKEN_HEADER: TOKEN})
    words, given = answer.json()
    assert "--set-from-stdin" in words and "--all" not in words
    assert given == values


def test_a_row_is_traced_by_the_command(page: TestClient) -> None:
    found = page.get("/api/trace", params={"table": "--help", "key": '{"id": "-1"}'}).json()
    [words, _] = found["versions"]
    assert words == ["trace", "--format", "json", "--", "--help", '{"id": "-1"}']
    assert page.get("/api/trace", params={"table": "a"}).status_code == 422


def test_a_trino_that_is_away_is_told(page: TestClient) -> None:
    answer = page.post("/api/ask", json={"sql": "SELECT 1"}, headers={TOKEN_HEADER: TOKEN})
    assert (answer.status_code, message(answer)) == (503, "Trino does not answer")


def test_health_tells_each_part_by_itself(page: TestClient, tmp_path: Path) -> None:
    found = page.get("/api/health").json()
    assert {part: [*told] for part, told in found.items() if part not in ("links", "off")} == {
        "services": ["error"], "connectors": ["none"], "freshness": ["error"],
        "verification": ["error"], "alerts": ["none"],
    }  # fmt: skip
    services = {
        "trino": {"state": "ready", "restarts": 2},
        "grafana": {"state": "failed", "error": {"message": "it ended"}},
        "silver": {"state": "waiting", "waits_for": "kafka"},
    }
    (tmp_path / "state.json").write_text(json.dumps({"services": services}))
    found = page.get("/api/health").json()
    assert found["services"]["rows"] == [
        ["trino", "ready", "2", None],
        ["grafana", "failed", "0", "it ended"],
        ["silver", "waiting", "0", "waits for kafka"],
    ]
    assert found["links"] == {"trino": LINKS["trino"]}
    assert found["off"] == [name for name in LINKS if name != "trino"]
    assert found["freshness"]["error"]["message"] == "Trino does not answer"
    assert "Prometheus does not run" in found["alerts"]["none"]["message"]


def test_health_does_not_wait_for_a_part_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.page.stack_health.PART_S", 0.2)
    monkeypatch.setattr("app.page.trino_sql.REQUEST_TIMEOUT_S", 5.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:  # takes calls, and says nothing
        host, port = silent.getsockname()
        asked = {"trino": (host, port), "grafana": ("127.0.0.1", 1)}
        trino = Trino(f"http://{host}:{port}")
        health = Health(tmp_path, trino, LINKS, None, asked, connect=ConnectWorkers([NOWHERE]))
        # At once: what is known, and that the rest is being asked.
        first = health.observe(0.0)
        assert first["freshness"] == {"asked": True} and first["services"]["rows"]
        found = health.observe()
    assert [row[:2] for row in found["services"]["rows"]] == [
        ["trino", "ready"], ["grafana", "absent"],
    ]  # fmt: skip
    assert found["connectors"]["error"]["message"] == "Connect does not answer"
    for part in ("freshness", "verification"):
        assert "no answer yet" in found[part]["error"]["message"]


def test_health_shows_the_last_answer_of_a_part_that_is_being_asked_again(tmp_path: Path) -> None:
    go_on = threading.Event()
    asked: list[str] = []

    class Busy(Trino):
        """Answers at once the first time, and when it may afterwards."""

        def run(self, statement: str, *_: Any, **__: Any) -> dict[str, Any]:
            asked.append(statement)
            assert len(asked) <= 2 or go_on.wait(10)
            return {"columns": ["table_name"], "rows": [["a"]]}

    health = Health(tmp_path, Busy(NOWHERE), {}, None)
    assert health.observe()["freshness"] == {"columns": ["table_name"], "rows": [["a"]]}
    later = health.observe(0.0)["freshness"]
    assert later["rows"] == [["a"]] and later["age_s"] >= 0
    go_on.set()


def test_what_is_wrong_with_services_and_connectors_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {
        "trino": {"state": "ready"},
        "store": {"state": "completed"},
        "silver": {"state": "backoff", "error": {"message": "it ended"}},
    }
    (tmp_path / "state.json").write_text(json.dumps({"services": services}))
    running, failed = {"state": "RUNNING"}, {"state": "FAILED", "trace": "Oops: no\n\tat x.y"}
    shown = {
        "bronze": {"status": {"connector": running, "tasks": [running, failed]}},
        "source": {"status": {"connector": running, "tasks": [running]}},
        "held": {"status": {"connector": {"state": "PAUSED"}, "tasks": []}},
    }

    class Answer:
        def json(self) -> Any:
            return shown

        def raise_for_status(self) -> None:
            pass

    monkeypatch.setattr("requests.Session.get", lambda *_, **__: Answer())
    health = Health(tmp_path, Trino(NOWHERE), {}, None, connect=ConnectWorkers([NOWHERE]))
    assert health.pulse() == [
        "silver is backoff: it ended",
        "connector bronze is FAILED: Oops: no",
        "connector held is PAUSED: its task is paused",
    ]
    assert health.observe()["connectors"]["rows"][2] == ["source", "RUNNING", None]


def change(op: str, **more: Any) -> tuple[str, list[str | None]]:
    query, values = statement_of(Change(op=op, table="public.odd films", **more), FILMS)
    return query.as_string(None), list(values)


def test_names_are_quoted_and_values_are_parameters_that_postgres_reads() -> None:
    wicked = "1'; drop table films --"
    assert change("update", key={"id": wicked}, values={'ti"tle': None}) == (
        'update "public"."odd films" set "ti""tle" = %s::text::character varying(9)'
        ' where "id" = %s::text::integer',
        [None, wicked],
    )
    assert change("delete", key={"id": "1"})[1] == ["1"]
    assert change("insert") == ('insert into "public"."odd films" default values', [])
    assert change("insert", values={"id": "7"})[1] == ["7"]


@pytest.mark.parametrize(
    ("op", "more", "told"),
    [
        ("update", {"key": {}, "values": {"id": "2"}}, "name the row by its key (id)"),
        ("update", {"key": {"id": "1"}}, "an update needs a value"),
        ("delete", {"key": {'ti"tle': "a"}}, "name the row by its key (id)"),
        ("insert", {"values": {"id; drop": "1"}}, "has no column `id; drop`"),
    ],
)
def test_a_change_that_names_no_row_or_column_is_refused(
    op: str, more: dict[str, Any], told: str
) -> None:
    with pytest.raises(Refused, match="") as refused:
        change(op, **more)
    assert told in refused.value.facts["message"]


def test_the_page_moves_nothing_all_the_time() -> None:
    """What runs on and on has a browser draw 60 times a second, and takes a CPU from the stack."""
    script = "".join((STATIC / name).read_text() for name in SCRIPTS)
    style = (STATIC / "page.css").read_text()
    assert "requestAnimationFrame" not in script and ".animate(" not in script
    assert "infinite" not in style and "transition" not in style
    moving = [line.strip() for line in style.splitlines() if "animation:" in line]
    assert moving == ["#journey.own li.there::after { animation: arrive .5s ease-out; }"]
