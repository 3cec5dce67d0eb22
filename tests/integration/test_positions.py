"""After any interruption between polls, the resumed connector gives each event of the log exactly once.

The task runs as in Kafka Connect, on the real server's log. It is ended after every
poll, and after random polls.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from app.environment.settings import ROOT
from app.source.database import address_of, password_of
from tests.support.polls import STOCK, UPGRADED, WHOLE, Polls, Run, polls
from tests.support.postgres import fresh_database
from tests.support.stack import Stack

SLOT = "headwater_positions"
RANDOM_RUNS = 3
WITHIN_S = 400
STOCK_S = 40  # if it is ended after each poll, it may begin a transaction again and again
TABLES = """
CREATE TABLE kc (id int PRIMARY KEY, v text);
CREATE TABLE pages (id int PRIMARY KEY, v text);
CREATE TABLE bag (id int, v text);
ALTER TABLE bag REPLICA IDENTITY FULL;
CREATE TABLE large (id int PRIMARY KEY, v text, n int);
ALTER TABLE large ALTER v SET STORAGE EXTERNAL;
CREATE PUBLICATION positions FOR TABLE kc, pages, bag, large;
"""


@dataclass(frozen=True)
class Log:
    """A part of the server's log: its reader, and its last transaction."""

    task: Polls
    last_xid: int
    dsn: str

    def read(self, name: str = WHOLE, *, batch: int, chance: float, seed: int = 0) -> Run:
        return self.task.run(
            name,
            batch=batch,
            chance=chance,
            seed=seed,
            until_xid=self.last_xid,
            within_s=STOCK_S if name == STOCK else WITHIN_S,
        )


@pytest.fixture(scope="module")
def log(source_server: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    """Transactions of all kinds after a slot's position, and a task that can read them repeatedly."""
    with fresh_database(source_server.settings.source_dsn) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLES)
            start = connection.execute(
                "SELECT lsn - '0/0' FROM pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT]
            ).fetchone()
            assert start is not None
            last = write(connection, dsn)
        try:
            folder = tmp_path_factory.mktemp("polls")
            with polls(folder, config(dsn, int(start[0]))) as task:
                yield Log(task, last, dsn)
        finally:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])


@pytest.fixture(scope="module")
def uncut(log: Log) -> list[tuple[str, Any, Any]]:
    """The records of Debezium's own task without interruption."""
    run = log.read(STOCK, batch=2048, chance=0)
    assert run.error == ""
    return run.records


@pytest.fixture(scope="module")
def cut(log: Log) -> Run:
    """The records of the task when each poll gives one record and the task is ended after each."""
    return log.read(batch=1, chance=1)


def test_the_task_gives_what_debeziums_own_gives_where_nothing_interrupts_it(
    log: Log, uncut: list[tuple[str, Any, Any]]
) -> None:
    shared = Counter((value["source"]["lsn"]) for _, _, value in uncut if value and "op" in value)
    assert max(shared.values()) > 100  # rows of a page that COPY wrote
    for batch in (1, 3, 2048):
        assert log.read(batch=batch, chance=0).records == uncut


def test_a_task_that_is_ended_after_each_poll_gives_each_event_exactly_once(
    cut: Run, uncut: list[tuple[str, Any, Any]]
) -> None:
    print(f"{cut.ends} restarts, {len(cut.records)} records")
    assert cut.error == ""
    assert cut.ends > 40
    assert cut.records == uncut


def test_a_task_that_is_ended_after_random_polls_gives_each_event_exactly_once(
    log: Log, uncut: list[tuple[str, Any, Any]], seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(RANDOM_RUNS):
        batch = rng.choice((1, 2, 3, 7, 50, 120, 500))
        run = log.read(batch=batch, chance=0.3, seed=rng.getrandbits(32))
        print(f"{run.ends} restarts in {run.polls} polls of {batch} records at most")
        assert run.error == ""
        assert run.records == uncut


def test_debeziums_own_task_loses_or_repeats_events_where_it_is_ended_between_records(
    log: Log, uncut: list[tuple[str, Any, Any]]
) -> None:
    run = log.read(STOCK, batch=1, chance=1)
    missing, twice = difference(uncut, run.records)
    print(f"{run.ends} restarts; {len(missing)} missing, {len(twice)} twice; {run.error}")
    assert missing or twice or run.error  # if Debezium repairs this, our task is not needed


def test_the_task_loses_nothing_where_debeziums_own_was_ended_between_records(
    log: Log, uncut: list[tuple[str, Any, Any]], seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(RANDOM_RUNS):
        run = log.read(UPGRADED, batch=1, chance=0.01, seed=rng.getrandbits(32))
        assert run.error == ""
        missing, twice = difference(places(uncut), places(run.records))
        print(f"{run.ends} restarts: {len(twice)} records of one position twice")
        assert missing == []
        assert len({json.loads(record)[2] for record in twice}) <= 1


def test_the_end_of_a_resumed_transaction_counts_all_of_its_events(cut: Run) -> None:
    counted: dict[str, Counter[str]] = {}
    for topic, _, value in cut.records:
        if value and "op" in value and value.get("transaction"):
            xid = value["transaction"]["id"].partition(":")[0]
            counted.setdefault(xid, Counter())[topic.removeprefix("t.")] += 1
    ends = [v for topic, _, v in cut.records if topic == "t.transaction" and v["status"] == "END"]
    assert len(ends) > 10
    for end in ends:
        assert dict(end["data_collections"] or []) == counted.get(
            end["id"].partition(":")[0], {}
        ), end


def test_the_end_counts_what_a_position_that_is_too_far_leaves_out(
    log: Log, uncut: list[tuple[str, Any, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    moved = [
        value
        for topic, _, value in uncut
        if topic == "t.public.kc" and value and value.get("transaction")
    ]
    first = next(value["source"] for value in moved if value["op"] == "d")
    xid = first["txId"]
    rows = [value["source"]["lsn"] for value in moved if value["source"]["txId"] == xid]
    assert len(rows) == 8  # four rows under new keys
    commit = int(json.loads(first["sequence"])[0])
    offset = {
        "lsn": rows[3],  # of two rows; the counters are those of the first
        "lsn_proc": rows[3],
        "lsn_commit": commit,
        "txId": xid,
        "messageType": "UPDATE",
        "transaction_id": str(xid),
        "transaction_data_collection_order_public.kc": 2,
    }
    wrong = config(log.dsn, commit) | {"test.offset": json.dumps(offset)}
    with polls(tmp_path_factory.mktemp("moved"), wrong) as task:
        found = Log(task, xid, log.dsn).read(batch=2048, chance=0).records
    events = [value for topic, _, value in found if topic == "t.public.kc" and value]
    assert [value["transaction"]["data_collection_order"] for value in events] == [5, 6, 7, 8]
    [end] = [v for topic, _, v in found if topic == "t.transaction" and v["status"] == "END"]
    assert (end["event_count"], end["data_collections"]) == (8, [("public.kc", 8)])


def difference(expected: list[Any], found: list[Any]) -> tuple[list[str], list[str]]:
    """The elements that the second list lacks, and those that it has in excess."""
    left, right = (Counter(json.dumps(r, sort_keys=True) for r in rs) for rs in (expected, found))
    return list((left - right).elements()), list((right - left).elements())


def places(records: list[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """Each change with its position in the log, without the counts of transactions."""
    return [
        (topic, [key, value["op"]], value["source"]["lsn"])
        for topic, key, value in records
        if value and "op" in value
    ]


def config(dsn: str, start: int) -> dict[str, str]:
    """The task's configuration: the connector's own, a heartbeat after nearly each event."""
    template = json.loads((ROOT / "debezium/connector.json").read_text())
    unwanted = ["key.", "value.", "signal.", "notification.", "topic.", "producer.", "database."]
    unwanted += ["kafka."]  # it runs without one
    kept = {k: v for k, v in template.items() if not k.startswith(tuple(unwanted))}
    address = address_of(dsn)
    return kept | {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "topic.prefix": "t",
        "database.hostname": address.host,
        "database.port": str(address.port),
        "database.dbname": address.database,
        "database.user": address.user,
        "database.password": password_of(dsn),
        "slot.name": SLOT,
        "publication.name": "positions",
        "heartbeat.interval.ms": "1",
        "poll.interval.ms": "20",
        "lsn.flush.mode": "manual",  # the slot does not advance, so each run begins there
        "test.offset": json.dumps(
            {"lsn": start, "lsn_commit": start, "lsn_proc": start, "messageType": "COMMIT"}
        ),
    }


def write(connection: psycopg.Connection[Any], dsn: str) -> int:
    """Write transactions of all kinds. Returns: the id of the last one."""
    connection.execute("INSERT INTO kc SELECT n, 'v' FROM generate_series(1, 4) n")
    connection.execute("UPDATE kc SET id = id + 1000")
    with connection.transaction():  # a page first
        copy(connection, "pages", 1, 420)
        connection.execute("UPDATE kc SET id = id + 1000 WHERE id < 1003")
        copy(connection, "bag", 1, 30)
        connection.execute("UPDATE bag SET v = 'w' WHERE id < 4")
        connection.execute("DELETE FROM kc WHERE id = 2001")
        connection.execute("SELECT pg_logical_emit_message(true, 'within', 'a')")
    with connection.transaction():
        connection.execute(
            "INSERT INTO large SELECT n, repeat(n::text, 9000), 0 FROM generate_series(1, 3) n"
        )
        connection.execute("UPDATE large SET n = n + 1")
        try:
            with connection.transaction():
                connection.execute("UPDATE kc SET id = id + 5000")
                raise psycopg.Rollback
        except psycopg.Rollback:
            pass
        connection.execute("UPDATE large SET id = id + 10")
    connection.execute("SELECT pg_logical_emit_message(false, 'beside', 'b')")
    interleave(connection, dsn)
    with connection.transaction():
        connection.execute("TRUNCATE pages, bag")
        copy(connection, "pages", 1, 5)
    connection.execute("DELETE FROM bag")
    row = connection.execute("INSERT INTO kc VALUES (9, 'last') RETURNING xmin::text").fetchone()
    assert row is not None
    return int(row[0])


def interleave(connection: psycopg.Connection[Any], dsn: str) -> None:
    """Interleave transactions: the next change in the log begins where a commit ends."""
    with psycopg.connect(dsn) as outer, psycopg.connect(dsn) as middle:
        for number in range(100, 106):
            outer.execute("INSERT INTO kc VALUES (%s, 'outer')", [number])
            middle.execute("INSERT INTO pages VALUES (%s, 'middle')", [number + 1000])
            connection.execute("INSERT INTO kc VALUES (%s, 'inner')", [number + 1000])
        connection.execute("SELECT pg_logical_emit_message(false, 'beside', 'c')")
        middle.commit()
        outer.execute("UPDATE kc SET id = id + 100 WHERE v = 'outer'")
        outer.commit()


def copy(connection: psycopg.Connection[Any], table: str, first: int, last: int) -> None:
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as rows:
        for number in range(first, last + 1):
            rows.write_row((number, "c"))
