"""Random transactions of rows and definitions; afterwards silver must equal the source, and bronze must be complete."""

from __future__ import annotations

import os

from spark_streaming.contract.names import silver_table
from tests.support.ddl_run import (
    REFUSED_IN_EVENTS,
    assert_bronze_is_whole,
    clear_quarantine,
    run,
    settle,
)
from tests.support.ddl_workload import Workload
from tests.support.stack import Stack


def test_silver_and_bronze_equal_the_source_after_random_rows_and_definitions(
    stack: Stack, seed: int
) -> None:
    minutes = float(os.environ.get("HEADWATER_FAULT_MINUTES") or 1)
    with stack.source() as source:
        workload = Workload(source, seed)
        workload.begin()
        try:
            settle(source, workload)
            run(minutes, workload.step)
            settle(source, workload)
            stack.run("verify", expect=None, timeout_s=600)  # waits until silver has all of it
            names = {silver_table("public", name): name for name in workload.tables}
            clear_quarantine(stack, workload, names, REFUSED_IN_EVENTS)
            verdicts = {row["table"]: row["verdict"] for row in stack.verify(*names)}
            assert set(verdicts.values()) == {"equal"}, verdicts
            assert_bronze_is_whole(stack)
        finally:
            print(f"done, by kind: {dict(workload.done.most_common())}")
            workload.drop_all()
