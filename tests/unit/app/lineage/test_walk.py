"""Following edges from a column or a table, up and down."""

from __future__ import annotations

import pytest

from app.errors import HeadwaterError
from app.lineage.edge import COPY, DERIVED, FILTER, READ, WRITTEN, Edge, Place
from app.lineage.walk import Step, find, walk

SOURCE = Place("source", "public.people")
TOPIC = Place("topic", "hw.public.people")
PEOPLE = Place("lake", "silver.people")
TOP = Place("lake", "reports.top")
NEXT = Place("lake", "reports.next")
JOB = Place("job", "suggest.learn")
ML = Place("lake", "ml.lists")
DASHBOARD = Place("dashboard", "Store")


def at(place: Place, column: str) -> Place:
    return place._replace(column=column)


EDGES = [
    *(Edge(at(SOURCE, c), at(TOPIC, c), COPY) for c in ("id", "email")),
    Edge(at(TOPIC, "id"), at(PEOPLE, "id"), COPY),
    Edge(at(TOPIC, "email"), at(PEOPLE, "email"), "mask:hash"),
    Edge(at(PEOPLE, "email"), at(TOP, "who"), DERIVED, "view reports.top"),
    Edge(at(PEOPLE, "id"), TOP, FILTER, "view reports.top"),
    Edge(at(TOP, "who"), at(NEXT, "who"), COPY, "view reports.next"),
    Edge(at(TOP, "rank"), at(NEXT, "rank"), COPY, "view reports.next"),
    Edge(PEOPLE, JOB, READ, "job suggest", "version 3"),
    Edge(JOB, ML, WRITTEN, "job suggest"),
    Edge(at(ML, "score"), DASHBOARD, "shown"),
]


def shown(steps: list[Step]) -> list[tuple[int, str, str, str]]:
    return [(s.distance, str(s.edge.origin), str(s.edge.target), s.edge.kind) for s in steps]


def test_a_column_is_followed_down_to_views_of_views_and_through_jobs() -> None:
    assert shown(walk(EDGES, at(PEOPLE, "email"), up=False)) == [
        (1, "silver.people.email", "reports.top.who", "derived"),
        (1, "silver.people", "job:suggest.learn", "read"),
        (2, "reports.top.who", "reports.next.who", "copy"),
        (2, "job:suggest.learn", "ml.lists", "written"),
        (3, "ml.lists.score", "dashboard:Store", "shown"),
    ]


def test_a_filter_is_shown_and_not_followed() -> None:
    steps = shown(walk(EDGES, at(PEOPLE, "id"), up=False))
    assert (1, "silver.people.id", "reports.top", "filter") in steps
    assert not [step for step in steps if "reports.next" in step[2]]


def test_a_column_is_followed_up_to_the_source_with_its_mask() -> None:
    assert shown(walk(EDGES, at(NEXT, "who"), up=True)) == [
        (1, "reports.top.who", "reports.next.who", "copy"),
        (2, "silver.people.email", "reports.top.who", "derived"),
        (2, "silver.people.id", "reports.top", "filter"),
        (3, "topic:hw.public.people.email", "silver.people.email", "mask:hash"),
        (4, "source:public.people.email", "topic:hw.public.people.email", "copy"),
    ]


def test_a_table_has_one_row_for_each_pair_of_objects() -> None:
    steps = walk(EDGES, PEOPLE, up=False)
    assert shown(steps) == [
        (1, "silver.people", "reports.top", "derived, filter"),
        (1, "silver.people", "job:suggest.learn", "read"),
        (2, "reports.top", "reports.next", "copy"),
        (2, "job:suggest.learn", "ml.lists", "written"),
        (3, "ml.lists", "dashboard:Store", "shown"),
    ]
    assert [s.edge.detail for s in steps[:3]] == ["1 column", "version 3", "2 columns"]


def test_edges_in_a_circle_end() -> None:
    circle = [
        Edge(PEOPLE, TOP, READ),
        Edge(TOP, PEOPLE, READ),
        Edge(at(TOP, "a"), at(TOP, "b"), COPY),
    ]
    assert len(walk(circle, PEOPLE, up=False)) == 3
    assert len(walk(circle, at(TOP, "a"), up=False)) == 3


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("people", "silver.people"),
        ("People.EMAIL", "silver.people.email"),
        ("silver.people.id", "silver.people.id"),
        ("reports.top", "reports.top"),
        ("source:public.people.email", "source:public.people.email"),
        ("hw.public.people.id", "topic:hw.public.people.id"),
        ("dashboard:store", "dashboard:Store"),
    ],
)
def test_a_name_means_silvers_table_first(given: str, meant: str) -> None:
    assert str(find(EDGES, given)) == meant


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ("peple", "the lineage has no `peple`", "is it people"),
        ("people.emial", "silver.people has no column `emial`", "is it email?"),
        ("reports.topp.who", "the lineage has no `reports.topp.who`", "reports.top"),
        ("zzzzzz", "the lineage has no `zzzzzz`", "ops.lineage"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(given: str, message: str, hint: str) -> None:
    with pytest.raises(HeadwaterError) as raised:
        find(EDGES, given)
    assert raised.value.message == message
    assert hint in raised.value.hint
