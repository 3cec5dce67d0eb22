"""A store with data for every chart, and a chart's data as Superset's page requests it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from app.dashboards.superset_client import Superset
from app.store.tables.schema import TABLE_NAMES
from app.store.tables.store_connection import engine_for
from app.store.workload.store_workload import Workload
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 300.0
CHANGES = 400
STEP_S = 15  # between two business transactions of the past hour
BROKEN = "turnstile"  # a table of rows that break its contract


@contextmanager
def something_to_see(stack: Stack) -> Iterator[None]:
    """A running stack with data for every chart, also for those of bad rows and of the last hour.

    1. An hour's business in the store.
    2. A table whose rows break its contract. It is dropped at the end, because rows in quarantine
       would be differences in a later verification of everything.
    3. One round of continuous verification.
    4. Silver has all that the source committed until then.
    """
    engine = engine_for(stack.settings.source_dsn)
    Workload(engine, rate=0, now=clock_of_the_last_hour()).run(changes_max=CHANGES)
    engine.dispose()
    contract = stack.settings.contracts_dir / f"public.{BROKEN}.toml"
    contract.parent.mkdir(exist_ok=True)
    contract.write_text(
        "[columns.passages]\nmin = 1\n[columns.gate]\nvalues = ['north', 'south']\n"
    )
    waiting = f"SELECT count(*) FROM ops.quarantine WHERE table_name = '{BROKEN}'"
    try:
        [(before,)] = stack.query(waiting)
        with stack.source() as source:
            source.execute(f"CREATE TABLE {BROKEN} (id int PRIMARY KEY, passages int, gate text)")
            source.execute(
                f"INSERT INTO {BROKEN} "
                "VALUES (1, 3, 'north'), (2, -5, 'south'), (3, 0, 'north'), (4, 7, 'roof')"
            )
        until(
            lambda: stack.query(waiting),
            lambda rows: rows == [(before + 3,)],  # a dropped table's entries stay
            within_s=SOON_S,
            what="three more rows in quarantine",
            every_s=0.5,
        )
        await_everything(stack)
        stack.run(
            "verify", "movies", "genres", "orders", BROKEN, "--continuous", "--rounds", "1",
            "--cpu-share", "100", timeout_s=SOON_S, expect=None,  # 1: there are rows in quarantine
        )  # fmt: skip
        yield
    finally:
        contract.unlink()
        with stack.source() as source:
            source.execute(f"DROP TABLE IF EXISTS {BROKEN}")


def clock_of_the_last_hour() -> Callable[[], datetime]:
    """Returns a time STEP_S later at each call, from an hour ago to now."""
    told = datetime.now(timezone.utc) - timedelta(minutes=58)

    def now() -> datetime:
        nonlocal told
        told = min(told + timedelta(seconds=STEP_S), datetime.now(timezone.utc))
        return told

    return now


def await_everything(stack: Stack) -> None:
    """Wait until silver has everything that the source has committed up to now."""
    count = " UNION ALL ".join(f"SELECT '{t}', count(*) FROM {t}" for t in sorted(TABLE_NAMES))
    with stack.source() as source:
        [(lsn,)] = source.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchall()

        def counts() -> tuple[set[tuple[Any, ...]], set[tuple[Any, ...]]]:
            return set(source.execute(count).fetchall()), set(stack.query(count))

        until(
            counts,
            lambda both: both[0] == both[1],
            within_s=SOON_S,
            what="as many rows in silver as in the source",
            every_s=1.0,
        )
    names = ", ".join(f"'{t}'" for t in TABLE_NAMES)
    until(
        lambda: stack.query(
            f"SELECT min(complete_lsn) FROM ops.freshness WHERE table_name IN ({names})"
        ),
        lambda rows: rows[0][0] is not None and rows[0][0] >= lsn,
        within_s=SOON_S,
        what=f"silver complete to {lsn}",
        every_s=1.0,
    )


class Charts:
    """The charts of one Superset, by uuid."""

    def __init__(self, superset: Superset) -> None:
        self._superset = superset
        found = (superset.get(f"/api/v1/chart/{chart['id']}") for chart in superset.charts())
        self.by_uuid: dict[str, dict[str, Any]] = {chart["uuid"]: chart for chart in found}

    def seen_by(self, other: Superset) -> Charts:
        """The same charts, requested by another user."""
        found = copy.copy(self)
        found._superset = other
        return found

    def rows(self, uuid: str) -> list[dict[str, Any]]:
        """The chart's current data; AssertionError if its query fails."""
        chart = self.by_uuid[uuid]
        params = json.loads(chart["params"])
        body = {
            "datasource": {"id": int(params["datasource"].split("__")[0]), "type": "table"},
            "queries": [query_of(params)],
            "result_format": "json",
            "result_type": "full",
        }
        [answer] = self._superset.post("/api/v1/chart/data", body)["result"]
        assert not answer["error"], f"{chart['slice_name']}: {answer['error']}"
        assert not answer["is_cached"], f"{chart['slice_name']} is cached"
        return list(answer["data"])


def query_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The query that Superset's page makes from a chart's parameters, for the kinds that we use."""
    columns: list[Any] = list(params.get("groupby") or [])
    metrics = list(params.get("metrics") or [])
    order: list[Any] = []
    if "metric" in params:
        metrics = [params["metric"]]
    if params.get("query_mode") == "raw":
        columns, metrics = list(params["all_columns"]), []
        order = [json.loads(text) for text in params["order_by_cols"]]
    if "x_axis" in params:
        axis = params["x_axis"]
        columns.insert(
            0,
            {
                "columnType": "BASE_AXIS",
                "expressionType": "SQL",
                "sqlExpression": axis,
                "label": axis,
                "timeGrain": params.get("time_grain_sqla"),
            },
        )
    filters = [
        {"col": each["subject"], "op": each["operator"], "val": each["comparator"]}
        for each in params.get("adhoc_filters", [])
    ]
    return {
        "columns": columns,
        "metrics": metrics if metrics or params.get("query_mode") != "raw" else None,
        "orderby": order,
        "filters": filters,
        "row_limit": params.get("row_limit", 1_000),
        "extras": {"having": "", "where": ""},
    }
