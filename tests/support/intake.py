"""The intake of a stack, and its streams' rows in the lake."""

from __future__ import annotations

from typing import Any

from app.intake.client import Intake, StreamClient
from app.lake.lakehouse import Lakehouse
from tests.support.stack import Stack


def intake_of(stack: Stack, stream: str) -> Intake:
    """One stream of the stack's intake."""
    return Intake(stack.settings.intake_url, stack.settings.secret("intake_token"), stream)


def client_of(stack: Stack, stream: str, **options: Any) -> StreamClient:
    """A client that sends in the background."""
    token = stack.settings.secret("intake_token")
    return StreamClient(stack.settings.intake_url, token, stream, **options)


def rows_of(stack: Stack, stream: str, *columns: str) -> list[dict[str, Any]]:
    """A stream's rows in the lake, read without Trino."""
    lake = Lakehouse(stack.settings).lake
    found = lake.table(f"silver/{stream}").to_pyarrow_dataset()
    return list(found.to_table(columns=list(columns) or None).to_pylist())
