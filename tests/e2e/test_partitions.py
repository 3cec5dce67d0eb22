"""Topics with several partitions: events are in order for each key, and tables without a key stay in one partition."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from kafka import KafkaConsumer, TopicPartition
from psycopg import sql

from tests.support.random_writes import writing
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

PARTITIONS = 3
WITHIN_S = 180.0
KEYS = 40
TRANSACTIONS_MIN = 300
KEYED, EMPTIED, BAG, LATE_BAG = "keyed", "emptied", "early_bag", "late_bag"
TABLES = (KEYED, EMPTIED, BAG, LATE_BAG)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    profile = tmp_path_factory.mktemp("partitions") / "profile.toml"
    profile.write_text(f"topic_partitions = {PARTITIONS}\n")
    with fresh_stack() as stack:
        stack.up("--profile", str(profile), "--only", "postgres")
        with stack.source() as source:
            for table in (KEYED, EMPTIED):
                source.execute(
                    f"CREATE TABLE {table} (id int, branch text, n int, note text, "
                    "PRIMARY KEY (id, branch))"
                )
                source.execute(
                    f"INSERT INTO {table} SELECT i, 'old', 0, 'before' "
                    f"FROM generate_series(1, {KEYS}) i"
                )
            source.execute(f"CREATE TABLE {BAG} (word text, n int)")
            source.execute(f"ALTER TABLE {BAG} REPLICA IDENTITY FULL")
            source.execute(f"INSERT INTO {BAG} SELECT 'seed', 0 FROM generate_series(1, 5)")
        stack.up("--only", "capture", "silver")
        yield stack


def test_silver_equals_the_source_over_several_partitions_whatever_is_written(
    stack: Stack, seed: int
) -> None:
    with stack.source() as source:
        source.execute(f"CREATE TABLE {LATE_BAG} (word text, n int)")
        source.execute(f"ALTER TABLE {LATE_BAG} REPLICA IDENTITY FULL")
        source.execute(f"INSERT INTO {LATE_BAG} VALUES ('first', 1), ('first', 1)")
        until(
            lambda: published(source),
            lambda names: set(TABLES) <= names,
            within_s=WITHIN_S,
            what="every table in the publication",
        )
    with writing(stack.settings.source_dsn, seed, change) as done:
        until(lambda: len(done), lambda n: n > 50, within_s=WITHIN_S, what="some transactions")
        stack.kill("silver", within_s=WITHIN_S)
        until(
            lambda: len(done),
            lambda n: n > TRANSACTIONS_MIN,
            within_s=WITHIN_S,
            what="more transactions",
        )
    verdicts = {row["table"]: row["verdict"] for row in stack.verify(*TABLES)}
    assert verdicts == dict.fromkeys(TABLES, "equal")


def test_tables_with_a_key_are_spread_and_tables_without_one_are_not(stack: Stack) -> None:
    counts = {table: events_of_partitions(stack, table) for table in TABLES}
    assert {table: len(found) for table, found in counts.items()} == {
        KEYED: PARTITIONS, EMPTIED: PARTITIONS, BAG: 1, LATE_BAG: 1,
    }  # fmt: skip
    assert all(count > 0 for count in counts[KEYED])


def test_a_row_is_traced_whatever_partition_has_its_events_and_what_emptied_the_table(
    stack: Stack,
) -> None:
    with stack.source() as source:
        for number in range(1, 4):
            source.execute(f"INSERT INTO {EMPTIED} VALUES (900, 'traced', {number}, 'x')")
            source.execute(f"TRUNCATE {EMPTIED}")
        source.execute(f"INSERT INTO {EMPTIED} VALUES (900, 'traced', 4, 'x')")

    def versions() -> list[dict[str, Any]]:
        words = ("trace", EMPTIED, "900,traced", "--seconds", "60", "--format", "json")
        return list(json.loads(stack.run(*words).stdout))

    found = until(
        versions,
        # The last one is Trino's current answer, and Trino does not run here.
        lambda told: [version["state"] for version in told][-2:-1] == ["in silver"],
        within_s=WITHIN_S,
        what="the row in silver",
        every_s=0.5,
    )
    assert [version["event"] for version in found] == ["insert", "truncate"] * 3 + ["insert", "now"]
    assert [version["row"]["n"] for version in found if version["row"]] == [1, 2, 3, 4]


def test_a_table_that_loses_its_key_is_told_of(stack: Stack) -> None:
    with stack.source() as source:
        source.execute(f"ALTER TABLE {EMPTIED} REPLICA IDENTITY FULL")
        source.execute(f"ALTER TABLE {EMPTIED} DROP CONSTRAINT {EMPTIED}_pkey")
    until(
        lambda: stack.run("logs", "capture").stdout + stack.run("logs", "capture").stderr,
        lambda text: f"public.{EMPTIED} has no key, but its topic has 3 partitions" in text,
        within_s=WITHIN_S,
        what="the guard's word about the lost key",
    )


def published(source: psycopg.Connection[tuple[Any, ...]]) -> set[str]:
    return {name for (name,) in source.execute("SELECT tablename FROM pg_publication_tables")}


def events_of_partitions(stack: Stack, table: str) -> list[int]:
    """The number of offsets in each partition of the table's topic."""
    consumer = KafkaConsumer(**stack.settings.kafka.options)
    try:
        topic = f"{stack.settings.topic_prefix}.public.{table}"
        places = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        return list(consumer.end_offsets(places).values())
    finally:
        consumer.close()


def change(connection: psycopg.Connection[tuple[Any, ...]], rng: random.Random) -> None:
    """Run one random statement; it changes nothing if its key exists already or its row does not exist."""
    choice = rng.random()
    row = {
        "id": rng.randint(1, KEYS),
        "other": rng.randint(1, KEYS),
        "n": rng.randint(0, 9),
        "branch": rng.choice("abc"),
        "word": rng.choice(["x", "y", "seed"]),
    }
    table = sql.Identifier(rng.choice([KEYED, EMPTIED]))
    bag = sql.Identifier(rng.choice([BAG, LATE_BAG]))

    def run(statement: str) -> None:
        connection.execute(sql.SQL(statement).format(table=table, bag=bag), row)

    if choice < 0.02:
        connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(EMPTIED)))
    elif choice < 0.04:
        run("TRUNCATE {bag}")
    elif choice < 0.30:
        run(
            "INSERT INTO {table} VALUES (%(id)s, %(branch)s, %(n)s, repeat(%(word)s, %(n)s)) "
            "ON CONFLICT (id, branch) DO UPDATE SET n = excluded.n, note = excluded.note"
        )
    elif choice < 0.45:
        run("UPDATE {table} SET n = n + 1 WHERE id = %(id)s")
    elif choice < 0.60:  # a new key, perhaps in another partition
        run(
            "UPDATE {table} t SET id = %(other)s, branch = %(branch)s WHERE ctid = "
            "(SELECT min(ctid) FROM {table} WHERE id = %(id)s) AND NOT EXISTS "
            "(SELECT FROM {table} WHERE id = %(other)s AND branch = %(branch)s)"
        )
    elif choice < 0.72:
        run("DELETE FROM {table} WHERE id = %(id)s")
    elif choice < 0.88:
        run("INSERT INTO {bag} SELECT %(word)s, %(n)s FROM generate_series(1, 2)")
    elif choice < 0.94:
        run(
            "UPDATE {bag} SET n = %(n)s WHERE ctid = "
            "(SELECT min(ctid) FROM {bag} WHERE word = %(word)s)"
        )
    else:
        run("DELETE FROM {bag} WHERE ctid = (SELECT min(ctid) FROM {bag} WHERE word = %(word)s)")
