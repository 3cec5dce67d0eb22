"""Superset signs in to Trino as itself and queries in the name of its user (`access = "signed"`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from app.dashboards.load import ANALYST, admin, superset_url
from app.dashboards.superset_client import Superset
from app.errors import HeadwaterError
from tests.support.stack import ROOT, Stack, fresh_stack
from tests.support.waiting import until

pytestmark = pytest.mark.slow
PLANTED = "canary-email@planted.example"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    before = dict(os.environ)  # the home's settings make this process trust its authority
    try:
        with fresh_stack() as fresh:
            profile = str(ROOT / "profiles" / "signed.toml")
            services = ("tables", "silver", "capture", "superset-assets")
            fresh.up("--profile", profile, "--only", *services, dashboards=True)
            with fresh.source() as source:
                source.execute("UPDATE customers SET email = %s WHERE customer_id = 1", [PLANTED])
            email = "SELECT email FROM silver.customers WHERE customer_id = 1"
            fresh.await_answer(email, [(PLANTED,)])
            yield fresh
    finally:
        os.environ.clear()
        os.environ.update(before)


def asked(superset: Superset, sql: str) -> list[dict[str, Any]]:
    databases = superset.all("/api/v1/database/")
    [database] = [each["id"] for each in databases if each["database_name"] == "Trino"]
    body = {"database_id": database, "sql": sql, "schema": "silver", "runAsync": False}
    return list(superset.post("/api/v1/sqllab/execute/", body)["data"])


def test_an_analyst_sees_masks_in_superset_and_an_administrator_values(stack: Stack) -> None:
    settings = stack.settings
    password = settings.secret("superset_analyst_password")
    analyst = Superset(superset_url(settings), ANALYST, password)
    sql = "SELECT email, country FROM lake.silver.customers WHERE customer_id = 1"
    [row] = until(lambda: asked(analyst, sql), within_s=60, what="an analyst's answer")
    assert row["email"] == "***"
    assert row["country"]
    assert asked(admin(settings), sql)[0]["email"] == PLANTED
    with pytest.raises(HeadwaterError) as refused:
        asked(analyst, "SELECT * FROM lake.ml.churn")
    assert PLANTED not in str(refused.value)
