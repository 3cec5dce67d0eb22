"""Every table belongs to exactly one of several silver jobs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_streaming.contract.names import topic_of
from spark_streaming.contract.table_share import TableShare, jobs_of

SETTING = "public.orders, public.order_*|audit.*, *.log"
PREFIX = "hw"
NAMES = st.text(alphabet="abelmnoq_.$ä", min_size=1, max_size=8)


def shares(setting: str = SETTING) -> list[TableShare]:
    return [TableShare.of(number, setting) for number in range(1, len(jobs_of(setting)) + 2)]


def owners(schema: str, table: str) -> list[int]:
    return [share.number for share in shares() if share.has(schema, table)]


@pytest.mark.parametrize(
    ("schema", "table", "job"),
    [
        ("public", "orders", 2),
        ("public", "order_lines", 2),
        ("public", "ordersmith", 1),
        ("public", "Orders", 1),
        ("audit", "orders", 3),
        ("audit", "a.b", 3),
        ("public", "log", 3),
        ("sales", "orders", 1),
        ("public", "order", 1),
    ],
)
def test_a_table_is_of_the_first_further_job_that_names_it_and_else_of_the_first(
    schema: str, table: str, job: int
) -> None:
    assert owners(schema, table) == [job]


@given(schema=NAMES.filter(lambda name: "." not in name), table=NAMES)
def test_each_table_has_exactly_one_job(schema: str, table: str) -> None:
    assert len(owners(schema, table)) == 1


@pytest.mark.parametrize("topic", ["hw.headwater.heartbeat", "hw.headwater.definitions"])
def test_each_job_reads_the_stacks_own_topics(topic: str) -> None:
    assert all(share.has_topic(topic, PREFIX) for share in shares())
    assert not any(share.has("headwater", "heartbeat") for share in shares())


@given(schema=NAMES.filter(lambda name: "." not in name), table=NAMES)
def test_the_pattern_of_topics_fits_those_of_the_jobs_tables_and_no_others(
    schema: str, table: str
) -> None:
    topic = topic_of(PREFIX, schema, table)
    reading = [share.number for share in shares() if share.has_topic(topic, PREFIX)]
    assert reading == [shares()[0].job_of(schema, table)]


def test_one_job_reads_all_topics_of_tables_and_has_no_other_pattern() -> None:
    only = TableShare.of(1, "")
    assert only.topic_pattern(PREFIX) == r"hw\.[^.]+\..+"
    assert only.has("any", "table") and not only.has_topic("hw.state", PREFIX)
    assert TableShare.of(3, "") == only


def test_the_name_of_a_split_begins_with_its_number_of_jobs_and_tells_it_from_others() -> None:
    assert [share.name for share in shares()] == [shares()[0].name] * 3
    assert re.fullmatch("3-[0-9a-f]{8}", shares()[0].name)
    assert shares("public.a|public.b")[0].name != shares("public.b|public.a")[0].name
    assert TableShare().name == "1"


@pytest.mark.parametrize("setting", ["orders", "public.a|", "public.(a|b)"])
def test_what_is_no_pattern_is_refused(setting: str) -> None:
    with pytest.raises(ValueError):
        jobs_of(setting)
