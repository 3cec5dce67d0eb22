"""A query that runs for minutes, and what Trino says of it."""

from __future__ import annotations

from typing import Any

from tests.support.stack import Stack
from tests.support.waiting import until

RUNNING_S = 90  # Trino may be starting


def long_query(name: str) -> str:
    """Return a query of one column `name`, by which it is found."""
    return (
        f"SELECT count(*) AS {name} FROM UNNEST(sequence(1, 10000)) AS a(x) "
        "CROSS JOIN UNNEST(sequence(1, 10000)) AS b(y) CROSS JOIN UNNEST(sequence(1, 1000)) AS c(z)"
    )


def states_of(stack: Stack, name: str) -> list[tuple[Any, ...]]:
    """Return state and error of each query with this column."""
    return stack.query(
        "SELECT state, error_code FROM system.runtime.queries "
        f"WHERE query LIKE '%AS {name} FROM UNNEST%' AND query NOT LIKE '%runtime%'"
    )


def await_running(stack: Stack, name: str) -> None:
    """Wait until the one query of this name runs."""
    until(
        lambda: states_of(stack, name),
        lambda found: [state for state, _ in found] == ["RUNNING"],
        within_s=RUNNING_S,
        what=f"the query {name} runs",
    )
