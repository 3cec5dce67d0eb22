"""dlt as the batch floor: it loads again and again, because it does not read the source's log."""

from __future__ import annotations

from typing import Any

from tests.bench.peers.contender import Arena, Program, peers_python, python_job
from tests.bench.peers.local_delta import LocalDelta

WAYS = {
    "replace": "the whole tables each time",
    "merge": "rows whose updated_at is new, upserted by key; deletes are not seen",
}


class BatchFloor(LocalDelta):
    """dlt's sql_database to Delta tables on the local disk, one load after the other."""

    identity = "DEFAULT"
    services: tuple[str, ...] = ("postgres",)

    def __init__(self, way: str) -> None:
        super().__init__()
        self.name = f"dlt-{way}"
        self._way = way

    def facts(self) -> dict[str, Any]:
        return {"dlt": "1.31.0", "settings": f"pyarrow backend; {WAYS[self._way]}"}

    def _prepared(self, arena: Arena) -> Program:
        self._lake = arena.folder / "lake" / "lake"
        options = {
            "source": arena.dsn.replace("postgresql://", "postgresql+psycopg://"),
            "tables": list(arena.tables),
            "way": self._way,
            "folder": str(arena.folder),
        }
        return python_job(
            self.name, arena, "dlt_loads", options,
            python=peers_python(), RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="WARNING",
        )  # fmt: skip
