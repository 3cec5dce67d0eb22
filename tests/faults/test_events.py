"""Events and sources that go wrong under load: poison, a value of 60 MB, a swap of tables, a source that goes away.

What else can happen to tables is in `test_ddl.py`; a snapshot that is cut in `tests/e2e/test_interrupted_snapshot.py`.
`HEADWATER_FAULT_SECONDS` is how long the source is away.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, closing

import psycopg
import pytest
from kafka import KafkaProducer

from tests.support.fault import Fault, Scene
from tests.support.waiting import until

AWAY_S = float(os.environ.get("HEADWATER_FAULT_SECONDS") or 60)
SOON_S = 300.0
GREAT_BYTES = 60_000_000
POISON = b'{"op": "c", "after": {"id": '

pytestmark = pytest.mark.timeout(1_200)


def test_a_poison_event_is_quarantined_and_stops_nothing(scene: Scene, seed: int) -> None:
    with scene.source() as source:
        source.execute("CREATE TABLE poisoned (id int PRIMARY KEY)")
        source.execute("INSERT INTO poisoned VALUES (1)")
    scene.stack.await_tables("poisoned")

    def poison() -> None:
        with closing(KafkaProducer(**scene.stack.settings.kafka.options)) as producer:
            for _ in range(20):
                producer.send("hw.public.poisoned", POISON, b'{"id": 2}', partition=0).get(30)
        until(
            lambda: scene.stack.query(
                "SELECT count(*) FROM ops.quarantine WHERE table_name = 'poisoned'"
            )[0][0],
            within_s=SOON_S,
            what="the poison in quarantine",
        )

    with scene.load(seed):
        scene.suffer(Fault("poison", poison))
        with scene.source() as source:
            source.execute("INSERT INTO poisoned VALUES (3)")
        scene.stack.await_answer("SELECT id FROM silver.poisoned ORDER BY 1", [(1,), (3,)])
    scene.prove()


def test_a_value_of_60_mb_arrives_and_delays_only_its_own_batch(scene: Scene, seed: int) -> None:
    with scene.source() as source:
        source.execute("CREATE TABLE great (id int PRIMARY KEY, body text)")
        source.execute("INSERT INTO great VALUES (1, 'small')")
    scene.stack.await_tables("great")

    def write() -> None:
        with scene.source() as source:
            source.execute("INSERT INTO great VALUES (2, %s)", [os.urandom(GREAT_BYTES // 2).hex()])

    with scene.load(seed):
        scene.suffer(Fault("a value of 60 MB", write))
        scene.stack.await_answer(
            "SELECT id, length(body) FROM silver.great ORDER BY 1",
            [(1, 5), (2, GREAT_BYTES)],
            within_s=SOON_S,
        )
    scene.prove()
    assert scene.stack.verdicts("great") == {"great": "equal"}


def test_tables_are_swapped_and_partitions_attached_and_removed_under_load(
    scene: Scene, seed: int
) -> None:
    with scene.source() as source:
        for statement in (
            "CREATE TABLE swapped (id int PRIMARY KEY, word text)",
            "INSERT INTO swapped SELECT i, 'old' FROM generate_series(1, 500) i",
            "CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id)",
            "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000)",
            "INSERT INTO parted SELECT i, 0 FROM generate_series(1, 500) i",
        ):
            source.execute(statement.encode())
    scene.stack.await_tables("swapped", "parted")

    def swap() -> None:
        with scene.source() as source:
            source.execute("CREATE TABLE swapped_new (LIKE swapped INCLUDING ALL)")
            source.execute("INSERT INTO swapped_new SELECT id, 'new' FROM swapped")
            with source.transaction():
                source.execute("ALTER TABLE swapped RENAME TO swapped_old")
                source.execute("ALTER TABLE swapped_new RENAME TO swapped")
            source.execute("UPDATE swapped SET word = 'newer' WHERE id <= 100")
            source.execute("CREATE TABLE parted_2 (LIKE parted INCLUDING ALL)")
            source.execute("INSERT INTO parted_2 SELECT i, 0 FROM generate_series(1000, 1400) i")
            source.execute(
                "ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (1000) TO (2000)"
            )
            source.execute("UPDATE parted SET n = 1 WHERE id % 3 = 0")
            source.execute("ALTER TABLE parted DETACH PARTITION parted_1")
            source.execute("DROP TABLE parted_1")

    with scene.load(seed):
        scene.suffer(Fault("a swap, and partitions that come and go", swap))
    scene.prove()
    until(
        lambda: scene.stack.verdicts("swapped", "swapped_old", "parted"),
        lambda found: set(found.values()) == {"equal"} and len(found) == 3,
        within_s=SOON_S,
        what="the swapped tables and the partitions equal",
        every_s=3,
    )


def test_a_source_that_is_away_for_long_is_followed_when_it_is_back(
    scene: Scene, seed: int
) -> None:
    away = ExitStack()
    with scene.load(seed, reconnect_s=AWAY_S + SOON_S):
        scene.suffer(
            Fault(
                "the source is away",
                lambda: away.enter_context(scene.stack.without("postgres")),
                away.close,
                ("ConnectorFailed", "CollectorFailing", "ServiceDown"),
                AWAY_S,
            )
        )
    scene.prove()


def test_a_source_that_restarts_in_the_middle_of_a_snapshot_is_read_to_the_end(
    scene: Scene, seed: int
) -> None:
    rows = 200_000

    def restart() -> None:
        with scene.source() as source:
            source.execute("CREATE TABLE long_one (id int PRIMARY KEY, body text)")
            source.execute(
                "INSERT INTO long_one SELECT i, repeat('x', 100) FROM generate_series(1, %s) i",
                [rows],
            )
            until(
                lambda: captured(source, "long_one"),
                within_s=SOON_S,
                what="the table is published",
            )
        scene.stack.kill("postgres")

    with scene.load(seed):
        scene.suffer(Fault("the source restarts in the middle of a snapshot", restart))
        scene.stack.await_answer(
            "SELECT count(*) FROM silver.long_one", [(rows,)], within_s=2 * SOON_S
        )
    scene.prove()
    assert scene.stack.verdicts("long_one") == {"long_one": "equal"}


def test_a_slot_that_is_dropped_is_made_again_and_its_gap_is_closed(
    scene: Scene, seed: int
) -> None:
    def drop() -> None:
        with scene.source() as source:
            until(
                lambda: (
                    source.execute(
                        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                        "WHERE slot_name = 'headwater' AND active"
                    ).fetchall()
                    and source.execute("SELECT pg_drop_replication_slot('headwater')").fetchall()
                ),
                within_s=SOON_S,
                what="the slot is dropped",
            )

    with scene.load(seed):
        scene.suffer(Fault("the slot is dropped", drop))
    # The connector streams new changes first; only then are the tables read again.
    log = scene.stack.home / "run" / "capture" / "stderr.log"

    def left() -> int:
        text = log.read_text(errors="replace")
        wanted = re.search(r"a resync of (\d+) tables is requested", text)
        done = text.count(": resync read") + text.count(": no resync, because")
        return int(wanted[1]) - done if wanted else -1

    until(
        left,
        lambda number: number == 0,
        within_s=SOON_S,
        what="every table is read again",
        every_s=2,
    )
    scene.prove(bronze=False)


def captured(source: psycopg.Connection[tuple[object, ...]], table: str) -> bool:
    found = source.execute(
        "SELECT FROM pg_publication_tables WHERE pubname = 'headwater' AND tablename = %s", [table]
    )
    return found.fetchone() is not None
