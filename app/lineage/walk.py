"""Follows edges from a table or a column, up to its origins or down to its uses."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from app.errors import HeadwaterError
from app.lineage.edge import FILTER, LAKE, NAMESPACES, Edge, Place

# If several objects have the name, the first namespace here wins.
_FIRST = (LAKE, *(one for one in NAMESPACES if one != LAKE))
_LIKENESS = 0.5
_UNQUALIFIED = "silver."


class Step(NamedTuple):
    """A followed edge and its distance in edges, from 1; `is_up`: it leads to the origin."""

    distance: int
    is_up: bool
    edge: Edge


def find(edges: Iterable[Edge], given: str) -> Place:
    """Return the object or column that NAME, NAME.COLUMN or NAMESPACE:NAME.COLUMN means.

    A table of silver may be named without its schema. If several objects have the name, it means the lake's.
    Raises: HeadwaterError with similar names.
    """
    columns: dict[Place, set[str]] = defaultdict(set)
    for edge in edges:
        for place in (edge.origin, edge.target):
            columns[place.whole].add(place.column)
    wanted, name = _namespaces(given)
    lower = name.lower()
    for namespace in wanted:
        objects = {place.name.lower(): place for place in columns if place.namespace == namespace}
        for candidate in (lower, _UNQUALIFIED + lower):
            if candidate in objects:
                return objects[candidate]
            table, _, column = candidate.rpartition(".")
            if table in objects:
                known = {one.lower(): one for one in columns[objects[table]] if one}
                if column in known:
                    return objects[table]._replace(column=known[column])
    raise _unknown(given, name, wanted, columns)


def _namespaces(given: str) -> tuple[tuple[str, ...], str]:
    namespace, colon, name = given.partition(":")
    return ((namespace,), name) if colon and namespace in NAMESPACES else (_FIRST, given)


def _unknown(
    given: str, name: str, wanted: tuple[str, ...], columns: dict[Place, set[str]]
) -> HeadwaterError:
    """The error for an unknown name: with its table's columns, or similar names."""
    objects = [place for place in columns if place.namespace in wanted]
    table = name.rpartition(".")[0].lower()
    for place in objects:
        if table and place.name.lower() in (table, _UNQUALIFIED + table):
            has = sorted(one for one in columns[place] if one)
            if has:
                near = difflib.get_close_matches(name.rpartition(".")[2], has, 3, _LIKENESS) or has
                return HeadwaterError(
                    f"{place} has no column `{name.rpartition('.')[2]}`",
                    hint=f"is it {' or '.join(near[:10])}?",
                )
    names = {str(place).removeprefix(_UNQUALIFIED): place for place in objects}
    near = difflib.get_close_matches(name, names, 3, _LIKENESS)
    return HeadwaterError(
        f"the lineage has no `{given}`",
        hint=f"is it {' or '.join(near)}?"
        if near
        else "`SELECT * FROM ops.lineage` lists all names",
    )


def walk(edges: Iterable[Edge], start: Place, *, up: bool) -> list[Step]:
    """Return the edges that lead to `start`, or away from it, nearest first.

    For a column, an edge of kind `filter` is shown and not followed, because it carries no value. If the
    columns are unknown, the whole object counts. For a whole object there is one edge for each pair of
    objects, with the kinds of all their edges; its detail is the number of columns.
    """
    if not start.column:
        return _walk_objects(edges, start, up)
    outgoing: dict[Place, list[Edge]] = defaultdict(list)
    for edge in edges:
        outgoing[edge.target if up else edge.origin].append(edge)
    of_object: dict[Place, list[Place]] = defaultdict(list)
    for place in outgoing:
        of_object[place.whole].append(place)
    found: dict[Edge, Step] = {}
    seen, front, distance = {start}, [start], 0
    while front:
        distance += 1
        reached: list[Place] = []
        for place in front:
            # An edge of a whole object holds for each column, and a whole object has the edges of all its columns.
            at = [place, place.whole] if place.column else of_object[place]
            for edge in (edge for one in at for edge in outgoing[one]):
                if edge in found:
                    continue
                found[edge] = Step(distance, up, edge)
                following = edge.origin if up else edge.target
                if edge.kind != FILTER and following not in seen:
                    seen.add(following)
                    reached.append(following)
        front = reached
    return list(found.values())


def _walk_objects(edges: Iterable[Edge], start: Place, up: bool) -> list[Step]:
    pairs: dict[tuple[Place, Place], list[Edge]] = defaultdict(list)
    for edge in edges:
        pairs[edge.origin.whole, edge.target.whole].append(edge)
    outgoing: dict[Place, list[tuple[Place, Place]]] = defaultdict(list)
    for pair in pairs:
        outgoing[pair[1] if up else pair[0]].append(pair)
    steps: list[Step] = []
    seen, front, distance = {start}, [start], 0
    while front:
        distance += 1
        reached = []
        for pair in (pair for place in front for pair in outgoing[place]):
            steps.append(Step(distance, up, _together(pair, pairs[pair])))
            following = pair[0] if up else pair[1]
            if following not in seen:
                seen.add(following)
                reached.append(following)
        front = reached
    return steps


def _together(pair: tuple[Place, Place], edges: list[Edge]) -> Edge:
    columns = {edge.target.column for edge in edges if edge.target.column}
    details = {edge.detail for edge in edges if edge.detail}
    if columns:
        details.add(f"{len(columns)} column{'s' if len(columns) > 1 else ''}")
    kinds = ", ".join(sorted({edge.kind for edge in edges}))
    makers = ", ".join(sorted({edge.made_by for edge in edges if edge.made_by}))
    return Edge(*pair, kinds, makers, "; ".join(sorted(details)))
