"""Runs a statement in Trino, with the answer in bounded memory; imports the client at first use."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import Any

from app.page.answers import CELL_CHARS_MAX, Refused

REQUEST_TIMEOUT_S = 15.0
# How long a statement may run; then Trino ends it.
STATEMENT_S = 60.0


class Trino:
    """The stack's Trino, as user `page`, which may not change anything of the stack."""

    def __init__(self, url: str) -> None:
        self._url = url

    def run(
        self, statement: str, rows_max: int, *, within_s: float = STATEMENT_S
    ) -> dict[str, Any]:
        """Run a statement; return `columns`, `rows` (texts, None for NULL), `more` (rows) and `seconds`.

        Args:
            within_s: how long Trino may take, planning included.
        Raises: Refused, with Trino's message.
        """
        import requests
        import trino.exceptions

        from app.query.trino_connection import connect

        began = time.monotonic()
        connection = connect(
            self._url,
            user="page",
            source="headwater-page",
            request_timeout=REQUEST_TIMEOUT_S,
            max_attempts=1,
            session_properties={"query_max_run_time": f"{within_s:.0f}s"},
        )
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            found = cursor.fetchmany(rows_max + 1)
            if len(found) > rows_max:
                cursor.cancel()
            names = [column[0] for column in cursor.description or ()]
        except trino.exceptions.TrinoQueryError as error:
            raise Refused(422, message=str(error.message), sqlstate=error.error_name) from error
        except (
            trino.exceptions.Error,
            trino.exceptions.HttpError,
            requests.RequestException,
        ) as error:
            raise Refused(503, message="Trino does not answer") from error
        finally:
            connection.close()
        return {
            "columns": names,
            "rows": [[_text(value) for value in row] for row in found[:rows_max]],
            "more": len(found) > rows_max,
            "seconds": round(time.monotonic() - began, 2),
        }


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray)):
        text = value.hex()
    elif isinstance(value, (dict, list, tuple)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, dt.datetime):
        text = value.isoformat(sep=" ")
    else:
        text = str(value)
    return text if len(text) <= CELL_CHARS_MAX else text[:CELL_CHARS_MAX] + "…"
