"""Which changes of partitions add or remove rows without an event."""

from __future__ import annotations

import pytest

from app.connectors.partitions import Known, Node, differences, made_in_place

ROOT = 1


def node(oid: int, *, parent: int = ROOT, kind: str = "r", **values: object) -> Node:
    given = {"file": oid, "xid": "50", "cid": 3, "born": "50", **values}
    return Node(oid, parent, kind, schema="public", name=f"p{oid}", **given)  # type: ignore[arg-type]


def tree(*nodes: Node) -> dict[int, Node]:
    return {one.oid: one for one in nodes}


def known(oid: int, filled: bool = True) -> dict[int, Known]:
    return {oid: Known(oid, filled, f"public.p{oid}")}


def test_a_partition_with_rows_that_goes_or_gets_another_file_is_told() -> None:
    old = {**known(2), **known(3), **known(4)}
    now = tree(node(3), node(4, file=40))
    assert differences(old, now, lambda one: True) == [
        "its partition public.p2 was dropped or detached",
        "its partition public.p4 was truncated or rewritten",
    ]


def test_an_empty_partition_that_comes_goes_or_gets_another_file_is_none() -> None:
    old = {**known(2, filled=False), **known(4, filled=False)}
    assert differences(old, tree(node(4, file=40), node(5)), lambda one: False) == []


@pytest.mark.parametrize(
    ("new", "command"),
    [
        (node(5), 3),
        (node(5, born="40"), None),
        (node(5, parent=2), 3),
        (node(5, parent=6), 9),
        (node(5, parent=7), None),
        (node(5, parent=8), 3),
    ],
    ids=[
        "made in place",
        "a table of its own before",
        "below one that is known",
        "below one that the same transaction attached later",
        "below one that was a table of its own",
        "below one that another transaction made in place",
    ],
)
def test_rows_of_before_the_attachment_are_told_by_the_commands_that_made_it(
    new: Node, command: int | None
) -> None:
    others = (
        node(2, kind="p"),
        node(6, kind="p", cid=9),
        node(7, kind="p", born="40"),
        node(8, kind="p", xid="49", born="49", cid=20),
    )
    assert made_in_place(new, tree(new, *others), known(2)) == command
