"""The cost of a contract file for one table's part of a micro-batch: decode, mask, fold, check rules.

It starts no stack, so the store's share (a commit if something is quarantined or counted) is not measured.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import read_file
from spark_streaming.contract.types import Column
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.rules.rules import TableRules, bind, no_rules
from spark_streaming.rules.screen import screen
from tests.support.measure import report
from tests.unit.debezium_events import event

COLUMNS = (
    Column("id", "bigint", "int64", nullable=False),
    Column("amount", "numeric(12,2)", "decimal", precision=12, scale=2),
    Column("state", "text", "text", toastable=True),
    Column("mail", "text", "text", toastable=True),
    Column("seats", "int", "int32"),
    Column("placed", "timestamptz", "timestamptz"),
    Column("note", "text", "text", toastable=True),
    Column("paid", "boolean", "bool"),
)
CONTRACT = Contract("public", "films", COLUMNS, key=("id",))
SIX_RULES = """
[columns.amount]
not_null = true
min = 0
[columns.state]
values = ["new", "paid", "sent"]
[columns.seats]
min = 1
max = 99
[[expectations]]
name = "mail_has_an_at_sign"
condition = "mail LIKE '_%@_%'"
[[expectations]]
name = "paid_has_an_amount"
condition = "NOT paid OR amount > 0"
"""
FILES = {
    "no file": "",
    "6 rules": SIX_RULES,
    "6 rules and a hash": SIX_RULES + "[columns.mail]\nmask = 'hash'\n",
}


def batch(size: int) -> list[RawEvent]:
    return [
        event(
            "c",
            lsn=100 + number,
            key={"id": number},
            after={
                "id": number,
                "amount": f"{number}.50",
                "state": "paid",
                "mail": f"person{number}@example.com",
                "seats": number % 90 + 1,
                "placed": "2026-01-01T10:00:00.123456Z",
                "note": "a note of some length " * 3,
                "paid": True,
            },
        )
        for number in range(size)
    ]


def rules_of(folder: Path, text: str) -> TableRules:
    if not text:
        return no_rules("public", "films")
    path = folder / "public.films.toml"
    path.write_text(text)
    return bind(read_file(path), CONTRACT)


@pytest.mark.parametrize(("size", "rounds"), [(1, 50), (50, 50), (1_000, 20), (50_000, 3)])
def test_contract_in_a_micro_batch(tmp_path: Path, size: int, rounds: int) -> None:
    events = batch(size)
    figures = {}
    for name, text in FILES.items():
        rules = rules_of(tmp_path, text)
        times = []
        for _ in range(rounds + 2):
            began = time.perf_counter()
            decoded = decode(events, CONTRACT, HighWater())
            decoded_at = time.perf_counter()
            screened = screen(decoded, CONTRACT, rules, b"key", lambda _: {}, None, {})
            times.append((decoded_at - began, time.perf_counter() - decoded_at))
            assert len(screened.folded.rows) == size and not screened.rejects
        figures[name] = {
            "decode_ms": round(1000 * statistics.median(t[0] for t in times[2:]), 2),
            "fold_and_judge_ms": round(1000 * statistics.median(t[1] for t in times[2:]), 2),
        }
    report(f"contracts_{size}_events", figures)
