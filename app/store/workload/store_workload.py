"""The store's workload: a seeded sequence of business transactions at a set rate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from random import Random

from sqlalchemy import Engine, select

from app.errors import HeadwaterError
from app.store.tables.schema import TABLE_NAMES, workload_run
from app.store.workload.clerk import Clerk
from app.store.workload.drive import PacedWorkload, Transaction
from app.store.workload.operations import OPERATIONS, Operation

# An operation that finds no row to change is replaced by another, at most this often.
DRAWS_MAX = 50


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Workload(PacedWorkload):
    """Business transactions on the movie store, one after another.

    The same seed over the same rows makes the same changes, except for the times (`now`). A
    second run over the same store makes other changes, since each run takes a new number
    from the sequence `workload_run`.

    Args:
        engine: connects as the store's owner.
        seed: of all random choices.
        rate: row changes a second for `run`; 0 for as fast as it goes.
        tables: use only operations that write no other table; None for all operations.
        mix: weights by operation name instead of the defaults; operations not named are not used.
        now: the time that rows get.
    Raises: HeadwaterError for an unknown table or operation, or if no operation is left.
    """

    def __init__(
        self,
        engine: Engine,
        seed: int = 1,
        rate: float = 50.0,
        *,
        tables: Collection[str] | None = None,
        mix: Mapping[str, int] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        if rate < 0:
            raise HeadwaterError("the rate must not be negative", detail=f"observed {rate}")
        self.rate = rate
        self._engine = engine
        self._seed = seed
        self._now = now
        self._operations, self._weights = choose(tables, mix)
        self._rng: Random | None = None

    def step(self) -> Transaction:
        """Do one business transaction and commit it.

        Raises: HeadwaterError if the store is empty; SQLAlchemy's errors of the database.
        """
        if self._rng is None:
            with self._engine.begin() as connection:
                number = connection.execute(select(workload_run.next_value())).scalar_one()
            self._rng = Random(f"{self._seed}:{number}")
        for _ in range(DRAWS_MAX):
            [operation] = self._rng.choices(self._operations, self._weights)
            with self._engine.begin() as connection:
                changes = operation.run(Clerk(connection, self._rng, self._now()))
            if changes:
                return Transaction(operation.name, operation.tables, changes, utc_now())
        raise HeadwaterError(
            "the workload found nothing to change",
            detail=f"{DRAWS_MAX} operations in a row found no row to change",
            hint="fill the store first: python -m app.store seed",
        )


def choose(
    tables: Collection[str] | None, mix: Mapping[str, int] | None
) -> tuple[list[Operation], list[int]]:
    """The operations that stay within `tables`, with their weights by `mix` or by default."""
    known = {operation.name for operation in OPERATIONS}
    for kind, given, all_of_them in (
        ("table", tables or (), TABLE_NAMES),
        ("operation", mix or (), known),
    ):
        unknown = sorted(set(given) - all_of_them)
        if unknown:
            raise HeadwaterError(
                f"unknown {kind} `{unknown[0]}`",
                hint=f"known are {', '.join(sorted(all_of_them))}",
            )
    weights = {o.name: o.weight for o in OPERATIONS} if mix is None else dict(mix)
    if any(weight < 0 for weight in weights.values()):
        raise HeadwaterError("a weight of the mix is negative")
    chosen = [
        operation
        for operation in OPERATIONS
        if weights.get(operation.name, 0) > 0
        and (tables is None or operation.tables <= frozenset(tables))
    ]
    if not chosen:
        raise HeadwaterError(
            "no operation writes only these tables",
            detail=f"tables {', '.join(sorted(tables or TABLE_NAMES))}",
            hint="tables that stand alone: customers, movies, movie_genres, ratings, tags",
        )
    return chosen, [weights[operation.name] for operation in chosen]
