"""The list of business transactions that the workload draws from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.store.workload import audience, sales
from app.store.workload import movies as catalogue
from app.store.workload.clerk import Clerk


@dataclass(frozen=True)
class Operation:
    """One kind of business transaction.

    Args:
        name: its name in a mix.
        tables: every table that it may write.
        weight: how often it is drawn, relative to the others.
        run: does it within an open transaction; returns the number of row changes, 0 if the
            store has no suitable row.
    """

    name: str
    tables: frozenset[str]
    weight: int
    run: Callable[[Clerk], int]


def _operation(run: Callable[[Clerk], int], weight: int, *tables: str) -> Operation:
    return Operation(run.__name__, frozenset(tables), weight, run)


# Open orders neither pile up nor run out: an order is advanced about as often as it has states.
OPERATIONS: tuple[Operation, ...] = (
    _operation(sales.place_order, 8, "orders", "order_lines", "invoices", "payments"),
    _operation(sales.advance_order, 20, "orders", "payments"),
    _operation(sales.cancel_order, 2, "orders", "order_lines", "invoices", "payments"),
    _operation(sales.remove_line, 2, "orders", "order_lines", "invoices"),
    _operation(sales.renumber_invoice, 1, "invoices", "payments"),
    _operation(catalogue.new_movie, 1, "movies", "movie_genres"),
    _operation(catalogue.change_price, 12, "movies"),
    _operation(catalogue.hold_sale, 1, "movies"),
    _operation(catalogue.stock_check, 1, "movies"),
    _operation(catalogue.rewrite_description, 3, "movies"),
    _operation(catalogue.recategorise, 2, "movie_genres"),
    _operation(audience.new_customer, 5, "customers"),
    _operation(audience.update_profile, 5, "customers"),
    _operation(audience.merge_customers, 1, "customers", "ratings", "tags", "orders"),
    _operation(audience.rate_movie, 25, "ratings"),
    _operation(audience.change_rating, 6, "ratings"),
    _operation(audience.delete_rating, 3, "ratings"),
    _operation(audience.tag_movie, 6, "tags"),
    _operation(audience.untag_movie, 2, "tags"),
)
