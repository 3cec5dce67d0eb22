"""The transactions of selling: orders with their lines, invoices and payments.

Each function does one business transaction for a Clerk and returns how many rows it changed;
0 if the store has no suitable row.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, Row, delete, func, literal_column, select, update

from app.store.planted.habits import habits_of
from app.store.tables import make
from app.store.tables.schema import customers, invoices, movies, order_lines, orders, payments
from app.store.workload.clerk import Clerk

_NEXT_STATE = {"pending": "paid", "paid": "shipped", "shipped": "delivered"}
# Literals, not parameters: only so does the planner see that the partial index answers it.
_IS_OPEN = literal_column("orders.status in ('pending', 'paid', 'shipped')", Boolean)
_IS_PENDING = literal_column("orders.status = 'pending'", Boolean)


def place_order(clerk: Clerk) -> int:
    """A customer orders one to five movies: order, lines, invoice, mostly the payment too."""
    customer = clerk.pick(customers.c.customer_id, customers.c.country, skew=2, lock=False)
    # A rare customer is passed over, as often as the habit says.
    if customer is not None and clerk.rng.random() > habits_of(customer.customer_id).eagerness:
        return 0
    picked = [
        clerk.pick(movies.c.movie_id, movies.c.price, skew=2, lock=False)
        for _ in range(clerk.rng.choice((1, 1, 2, 2, 3, 4, 5)))
    ]
    prices: dict[int, Decimal] = {row.movie_id: row.price for row in picked if row}
    if customer is None or not prices:
        return 0
    items = [make.Item(m, prices[m], clerk.rng.choice((1, 1, 1, 2, 3))) for m in sorted(prices)]
    order_id = clerk.next_id(orders.c.order_id)
    amount = float(make.total(items))
    at_once = habits_of(customer.customer_id).paid_after_days(order_id, amount) == 0
    rows = make.order(
        clerk.rng,
        order_id,
        customer.customer_id,
        customer.country,
        items,
        clerk.now,
        status="paid" if at_once else "pending",
    )
    return (
        clerk.add(orders, [rows.order])
        + clerk.add(order_lines, rows.lines)
        + clerk.add(invoices, [rows.invoice] if rows.invoice else [])
        + clerk.add(payments, rows.payments)
    )


def advance_order(clerk: Clerk) -> int:
    """An open order moves to its next state; a pending one is paid, if its customer ever pays it."""
    columns = (orders.c.status, orders.c.customer_id, orders.c.total)
    order = clerk.pick(orders.c.order_id, *columns, where=_IS_OPEN)
    if order is None:
        return 0
    changes = 0
    if order.status == "pending":
        habits = habits_of(order.customer_id)
        if habits.paid_after_days(order.order_id, float(order.total)) is None:
            return 0
        billed = _invoice_of(clerk, order.order_id)
        if billed is not None and billed.gross > 0:
            row = make.payment(clerk.rng, dict(billed._mapping), clerk.now)
            changes += clerk.add(payments, [row])
    return changes + clerk.change(
        update(orders)
        .where(orders.c.order_id == order.order_id)
        .values(status=_NEXT_STATE[order.status], updated_at=clerk.now)
    )


def cancel_order(clerk: Clerk) -> int:
    """An open order is called off: mostly deleted with all that hangs on it, else marked."""
    order = clerk.pick(orders.c.order_id, where=_IS_OPEN)
    if order is None:
        return 0
    mine = orders.c.order_id == order.order_id
    if clerk.rng.random() < 0.3:
        return clerk.change(
            update(orders).where(mine).values(status="cancelled", updated_at=clerk.now)
        )
    numbers = select(invoices.c.invoice_number).where(invoices.c.order_id == order.order_id)
    return (
        clerk.change(delete(payments).where(payments.c.invoice_number.in_(numbers)))
        + clerk.change(delete(invoices).where(invoices.c.order_id == order.order_id))
        + clerk.change(delete(order_lines).where(order_lines.c.order_id == order.order_id))
        + clerk.change(delete(orders).where(mine))
    )


def remove_line(clerk: Clerk) -> int:
    """A line leaves a pending order; the later ones move up (their key changes)."""
    order = clerk.pick(orders.c.order_id, orders.c.total, where=_IS_PENDING)
    if order is None:
        return 0
    mine = order_lines.c.order_id == order.order_id
    lines = clerk.connection.execute(
        select(order_lines.c.line_no, order_lines.c.quantity, order_lines.c.unit_price)
        .where(mine)
        .order_by(order_lines.c.line_no)
    ).all()
    if len(lines) < 2:
        return 0
    gone = clerk.rng.randrange(len(lines))
    left = [*lines[:gone], *lines[gone + 1 :]]
    total = sum((line.quantity * line.unit_price for line in left), Decimal(0))
    changes = clerk.change(
        delete(order_lines).where(mine, order_lines.c.line_no == lines[gone].line_no)
    )
    # One at a time, upwards: the key is checked row by row, not at the statement's end.
    for line in lines[gone + 1 :]:
        changes += clerk.change(
            update(order_lines)
            .where(mine, order_lines.c.line_no == line.line_no)
            .values(line_no=line.line_no - 1)
        )
    changes += _bill_anew(clerk, order.order_id, total)
    return changes + clerk.change(
        update(orders)
        .where(orders.c.order_id == order.order_id)
        .values(total=total, updated_at=clerk.now)
    )


def renumber_invoice(clerk: Clerk) -> int:
    """An invoice is issued again under a corrected number; its payments follow (cascade)."""
    order = clerk.pick(orders.c.order_id, where=_IS_OPEN, skew=0.5)
    if order is None:
        return 0
    invoice = _invoice_of(clerk, order.order_id)
    if invoice is None:
        return 0
    base, _, correction = invoice.invoice_number.partition("/")
    number = f"{base}/{int(correction or 0) + 1}"
    paid = clerk.connection.execute(
        select(func.count())
        .select_from(payments)
        .where(payments.c.invoice_number == invoice.invoice_number)
    ).scalar_one()
    return int(paid) + clerk.change(
        update(invoices)
        .where(invoices.c.invoice_number == invoice.invoice_number)
        .values(invoice_number=number, digest=make.digest(number, invoice.net))
    )


def _invoice_of(clerk: Clerk, order_id: int) -> Row[Any] | None:
    return clerk.connection.execute(
        select(invoices).where(invoices.c.order_id == order_id).with_for_update()
    ).first()


def _bill_anew(clerk: Clerk, order_id: int, net: Decimal) -> int:
    invoice = _invoice_of(clerk, order_id)
    if invoice is None:
        return 0
    return clerk.change(
        update(invoices)
        .where(invoices.c.invoice_number == invoice.invoice_number)
        .values(
            net=net,
            gross=make.gross(net, invoice.tax_rate),
            digest=make.digest(invoice.invoice_number, net),
        )
    )
