"""The page on the whole chain: an edit is committed, seen at each hop, and silver agrees."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests

from app.lake.lakehouse import Lakehouse
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 120.0
TABLE = "public.paged"
WICKED = "<script>alert(1)</script>&'\""
Answer = dict[str, Any]


class Page:
    """The page as a browser uses it: its address has the token, which requests send as a header."""

    def __init__(self, url: str) -> None:
        address, _, token = url.partition("#token=")
        self.url = address.rstrip("/")
        assert requests.get(f"{self.url}/api/ready", timeout=30).ok and token
        self.headers = {"x-headwater-token": token}
        self.notes: list[str] = []
        self.hops: list[Answer] = []

    def get(self, path: str, **query: Any) -> Any:
        answer = requests.get(f"{self.url}{path}", params=query, headers=self.headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, status: int, **query: Any) -> Answer:
        answer = requests.get(
            f"{self.url}{path}", params=query, headers=self.headers, timeout=SOON_S
        )
        assert answer.status_code == status, answer.text
        return dict(answer.json()["error"])

    def post(self, path: str, body: Any, expect: int = 200) -> Any:
        # A replay waits for silver's next batch.
        answer = requests.post(f"{self.url}{path}", json=body, headers=self.headers, timeout=SOON_S)
        assert answer.status_code == expect, answer.text
        return answer.json()

    def listen(self) -> None:
        """Collect the page's events until the server ends."""
        with (
            suppress(requests.RequestException),  # the stream ends with the server
            requests.get(
                f"{self.url}/api/hops", headers=self.headers, stream=True, timeout=60
            ) as stream,
        ):
            kind = ""
            for line in stream.iter_lines():
                name, _, text = line.decode().partition(": ")
                if name == "event":
                    kind = text
                elif name == "data":
                    (self.hops if kind == "hop" else self.notes).append(json.loads(text))


@pytest.fixture(scope="module")
def page(stack: Stack) -> Iterator[Page]:
    url = stack.urls()["app"]
    page = until(lambda: Page(url), within_s=SOON_S, what="the page")
    with stack.source() as source:
        source.execute("CREATE TABLE paged (id int PRIMARY KEY, v text NOT NULL, at timestamptz)")
        source.execute("INSERT INTO paged VALUES (1, 'old', '2026-01-01')")
    stack.await_tables("paged")
    yield page
    with stack.source() as source:
        source.execute("DROP TABLE paged")


def insert(number: int, **values: str | None) -> Answer:
    return {"op": "insert", "table": TABLE, "values": {"id": str(number), **values}}


def test_a_transaction_of_several_rows_is_seen_at_each_hop_and_silver_agrees(
    stack: Stack, page: Page
) -> None:
    # A daemon: the stream ends with the server.
    threading.Thread(target=page.listen, daemon=True).start()
    until(
        lambda: [note for note in page.notes if note.startswith("watching")],
        within_s=SOON_S,
        what="the observer",
    )
    made = page.post(
        "/api/edit",
        {
            "changes": [
                insert(2, v=WICKED, at="yesterday"),
                {"op": "update", "table": TABLE, "key": {"id": "1"}, "values": {"at": None}},
            ]
        },
    )

    def arrived() -> dict[tuple[str, str], int]:
        own = [hop for hop in page.hops if hop["transaction"] == made["transaction"]]
        return {(hop["key"], hop["hop"]): hop["ms"] for hop in own}

    seen = until(arrived, lambda hops: len(hops) == 10, within_s=SOON_S, what="ten sightings")
    for key in ('{"id": 1}', '{"id": 2}'):
        assert 0 <= seen[key, "debezium"] <= seen[key, "kafka"] <= seen[key, "bronze"]
        assert seen[key, "kafka"] <= seen[key, "silver"] <= seen[key, "trino"]
    order = [hop["hop"] for hop in page.hops if hop["transaction"] == made["transaction"]]
    assert order[:2] == ["debezium", "kafka"] and order.index("silver") < order.index("trino")
    places = {hop["hop"]: hop["where"] for hop in page.hops if hop["key"] == '{"id": 2}'}
    assert places["bronze"].endswith(".jsonl.gz") and places["kafka"].startswith("hw.public.paged/")
    assert places["silver"] == places["trino"] and places["silver"].startswith("batch ")
    stack.verify("paged")
    assert TABLE in {row["table"] for row in page.get("/api/tables")}
    rows = page.get("/api/rows", table=TABLE, descending=True)
    assert [row[:2] for row in rows["rows"]] == [["2", WICKED], ["1", "old"]]
    assert rows["rows"][1][2] is None
    assert [column["key"] for column in rows["columns"]] == [True, False, False]


def test_source_and_silver_are_compared_cell_by_cell(stack: Stack, page: Page) -> None:
    with stack.source() as source:
        source.execute(
            "INSERT INTO paged VALUES (5, 'five', '2026-05-05 05:05+00'), (6, 'six', NULL)"
        )
    asked = {"table": TABLE, "keys": [{"id": "5"}, {"id": "6"}, {"id": "77"}]}

    def differing() -> list[list[str]]:
        return [row["differing"] for row in page.post("/api/compare", asked)["rows"]]

    until(differing, lambda found: found == [[], [], []], within_s=SOON_S, what="equal rows")
    found = page.post("/api/compare", asked)
    five, _, none = found["rows"]
    assert (
        five["source"] == five["silver"] == {"id": "5", "v": "five", "at": "2026-05-05 05:05:00+00"}
    )
    assert (none["source"], none["silver"]) == (None, None)
    assert found["behind_bytes"] >= 0 and "/" in found["complete_lsn"]
    silver = Lakehouse(stack.settings).silver("paged")
    silver.update(predicate="id = 5", updates={"v": "'forged'"})
    silver.delete(predicate="id = 6")
    five, six, _ = page.post("/api/compare", asked)["rows"]
    assert (five["differing"], five["silver"]["v"]) == (["v"], "forged")
    assert (six["differing"], six["silver"]) == (["id", "v", "at"], None)
    with stack.source() as source:  # a new event repairs a row
        source.execute("UPDATE paged SET v = v || '!' WHERE id IN (5, 6)")
    until(differing, lambda found: found == [[], [], []], within_s=SOON_S, what="repaired rows")
    error = page.post("/api/compare", {"table": TABLE, "keys": [{"no": "1"}]}, expect=502)["error"]
    assert error["message"].endswith("is not a key of public.paged")


def test_health_tells_services_freshness_and_where_to_look(stack: Stack, page: Page) -> None:
    def looked() -> Any:
        return page.get("/api/health")

    found = until(
        looked,
        lambda told: "paged" in {row[0] for row in told["freshness"].get("rows", ())},
        within_s=SOON_S,
        what="the table's freshness",
    )
    states = {row[0]: row[1] for row in found["services"]["rows"]}
    assert (states["app"], states["kafka"], states["store"]) == ("ready", "ready", "completed")
    assert found["links"]["trino"] == stack.settings.trino_url
    assert {row[1] for row in found["freshness"]["rows"] if row[0] == "paged"} == {"running"}


def test_what_is_asked_of_trino_is_answered_also_as_it_was(stack: Stack, page: Page) -> None:
    def asked(text: str, expect: int = 200) -> Any:
        return page.post("/api/ask", {"sql": text}, expect)

    found = asked(
        "SELECT i, IF(i > 1, NULL, ARRAY[true]) AS a FROM UNNEST(sequence(1, 2)) AS t (i);"
    )
    assert (found["columns"], found["rows"], found["more"]) == (
        ["i", "a"], [["1", "[true]"], ["2", None]], False,
    )  # fmt: skip
    large = asked("SELECT i FROM UNNEST(sequence(1, 5000)) AS t (i)")
    assert (len(large["rows"]), large["more"]) == (500, True)
    [first, *_], *_ = asked('SELECT version FROM silver."paged$history" ORDER BY 1 DESC')["rows"]
    with stack.source() as source:
        source.execute("INSERT INTO paged VALUES (40, 'later', NULL)")
    until(
        lambda: asked("SELECT v FROM silver.paged WHERE id = 40")["rows"],
        within_s=SOON_S,
        what="the row in Trino",
    )
    then = asked(f"SELECT v FROM silver.paged FOR VERSION AS OF {first} WHERE id = 40")
    assert then["rows"] == []
    error = asked("SELEC 1", 422)["error"]
    assert error["sqlstate"] == "SYNTAX_ERROR" and "SELEC" in error["message"]
    assert asked("DELETE FROM silver.paged", 422)["error"]["sqlstate"] == "PERMISSION_DENIED"


def test_the_catalogue_says_what_a_table_means_and_what_it_is_made_of(
    stack: Stack, page: Page
) -> None:
    with stack.source() as source:
        source.execute(f"COMMENT ON TABLE paged IS '{WICKED.replace(chr(39), chr(39) * 2)}'")
        source.execute("COMMENT ON COLUMN paged.v IS 'what it says'")

    def described() -> tuple[Any, Any]:
        found = page.get("/api/catalogue")
        at = {name: i for i, name in enumerate(found["tables"]["columns"])}
        tables = {row[at["table_name"]]: row[at["description"]] for row in found["tables"]["rows"]}
        columns = [row[2:] for row in found["columns"]["rows"] if row[:2] == ["silver", "paged"]]
        return tables.get("paged"), columns

    until(described, lambda found: found[0] == WICKED, within_s=SOON_S, what="its description")
    assert described()[1][:2] == [
        ["id", "integer", None, None, "true"],
        ["v", "varchar", "what it says", None, "false"],
    ]
    one = page.get("/api/catalogue/table", schema="silver", name="paged")
    assert "audit = true" in one["askers"]["none"]["hint"]
    assert one["quarantine"]["columns"] == ["rule", "open_entries", "since"]
    assert {"versions", "expectations"} <= one.keys()
    whole = until(
        lambda: page.get("/api/catalogue/lineage", schema="silver", name="paged"),
        lambda found: found["up"],
        within_s=SOON_S,
        what="its lineage",
    )
    assert "source" in {step["from"]["namespace"] for step in whole["up"]}
    column = page.get("/api/catalogue/lineage", schema="silver", name="paged", column="v")
    origin = {"namespace": "source", "name": "public.paged", "column": "v"}
    assert origin in [step["from"] for step in column["up"]]


def test_a_row_is_traced_and_one_that_never_was_is_told(page: Page) -> None:
    versions = page.get("/api/trace", table=TABLE, key='{"id":"1"}')["versions"]
    assert [version["event"] for version in versions][-1] == "now"
    assert versions[0]["event"] in ("insert", "snapshot") and versions[0]["bronze"]
    answer = page.refused("/api/trace", 502, table=TABLE, key="999")
    assert answer["message"] == "no event of paged with id=999 was found"


def test_a_row_in_quarantine_is_repaired_and_replayed(stack: Stack, page: Page) -> None:
    folder = stack.settings.contracts_dir
    folder.mkdir(exist_ok=True)
    file = folder / "public.paged.toml"
    file.write_text("[columns.v]\nvalues = ['old']\n")
    numbers = itertools.count(30)

    def entries() -> list[Answer]:
        found = page.get("/api/quarantine")["entries"]
        return [entry for entry in found if entry["table"] == "paged"]

    def one_more() -> list[Answer]:
        """Write a row that the contract file does not allow; silver reads the file every two seconds."""
        number = next(numbers)
        with stack.source() as source:
            source.execute("INSERT INTO paged VALUES (%s, 'new', NULL)", [number])
        until(
            lambda: entries() or stack.query(f"SELECT 1 FROM silver.paged WHERE id = {number}"),
            within_s=SOON_S,
            what=f"row {number} in silver or in quarantine",
        )
        return entries()

    try:
        [entry] = until(one_more, within_s=SOON_S, what="the entry")
        assert (entry["rule"], entry["key"]) == ("v_values", f'{{"id":{next(numbers) - 1}}}')
        shown = page.get("/api/quarantine/entry", name=entry["entry"])
        assert json.loads(shown["raw_value"])["after"]["v"] == "new"
        [still] = page.post("/api/quarantine", {"action": "replay", "entries": [entry["entry"]]})
        assert still["outcome"] == "open"
    finally:
        file.unlink()
    until(
        lambda: page.post("/api/quarantine", {"action": "replay", "entries": [entry["entry"]]}),
        lambda outcomes: [one["outcome"] for one in outcomes] == ["replayed"],
        within_s=SOON_S,
        what="the replay",
    )
    assert entries() == []


def test_what_the_database_refuses_is_told_in_its_words_and_nothing_is_committed(
    page: Page,
) -> None:
    before = page.get("/api/rows", table=TABLE)["rows"]
    wrong = {
        "23505": insert(1, v="again"),
        "23502": insert(8, v=None),
        "22P02": {"op": "update", "table": TABLE, "key": {"id": "one"}, "values": {"v": "a"}},
        "22007": insert(8, v="a", at="someday"),
    }
    for state, change in wrong.items():
        body = {"changes": [insert(7, v="first"), change]}
        error = page.post("/api/edit", body, expect=422)["error"]
        assert (error["sqlstate"], error["change"]) == (state, 2)
    assert error["message"] == 'invalid input syntax for type timestamp with time zone: "someday"'
    gone = {"op": "delete", "table": TABLE, "key": {"id": "99"}}
    error = page.post("/api/edit", {"changes": [insert(7, v="x"), gone]}, expect=409)["error"]
    assert "found 0 rows" in error["message"]
    for table in ("public.nothing", "headwater.heartbeat", "pg_catalog.pg_class", "paged"):
        change = {"op": "insert", "table": table}
        assert page.post("/api/edit", {"changes": [change]}, expect=404)
    assert page.get("/api/rows", table=TABLE)["rows"] == before


def test_the_sql_box_runs_what_is_typed_as_one_transaction(page: Page) -> None:
    def run(text: str, expect: int = 200) -> Any:
        return page.post("/api/sql", {"sql": text}, expect)

    inserted, selected = run(
        "INSERT INTO paged VALUES (20, 'x'); SELECT id, NULL FROM paged WHERE id = 20"
    )
    assert inserted == {"done": "INSERT 0 1"}
    assert (selected["rows"], selected["columns"]) == ([["20", None]], ["id", "?column?"])
    error = run("DELETE FROM paged WHERE id = 20; SELEC 1", 422)["error"]
    assert (error["sqlstate"], error["message"]) == ("42601", 'syntax error at or near "SELEC"')
    error = run("DELETE FROM paged WHERE id = 20; SELECT 1 / 0", 422)["error"]
    assert error["message"] == "division by zero"
    [kept] = run("SELECT count(*) FROM paged WHERE id = 20")
    assert kept["rows"] == [["1"]]
    [large] = run("SELECT i, repeat('x', 9000) FROM generate_series(1, 5000) i")
    assert (len(large["rows"]), large["count"], len(large["rows"][0][1])) == (200, 5000, 2001)
    assert run("  ") == []
    assert "COPY" in run("COPY paged TO STDOUT", 422)["error"]["message"]
    assert run("DELETE FROM paged WHERE id = 20") == [{"done": "DELETE 1"}]


def test_a_table_that_is_made_and_changed_in_the_sql_box_is_in_silver(
    stack: Stack, page: Page
) -> None:
    def run(text: str) -> None:
        page.post("/api/sql", {"sql": text})

    run(
        "CREATE TABLE paged_own (id int PRIMARY KEY, v text); INSERT INTO paged_own VALUES (1, 'a')"
    )
    try:
        stack.await_tables("paged_own")
        run("ALTER TABLE paged_own ADD COLUMN n int; INSERT INTO paged_own VALUES (2, 'b', 22)")
        stack.verify("paged_own")
        assert stack.query("SELECT id, v, n FROM silver.paged_own ORDER BY id") == [
            (1, "a", None), (2, "b", 22),
        ]  # fmt: skip
    finally:
        run("DROP TABLE paged_own")
