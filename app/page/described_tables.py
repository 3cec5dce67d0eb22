"""The page's catalogue: what tables and views mean, how they are, what is made of what, who asked.

It shows names, meanings and states, never a value of a row: no text of a question, no difference that
verification found, no reason of an entry in quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from app.errors import HeadwaterError
from app.lineage.edge import LAKE, Edge, Place
from app.lineage.walk import Step, find, walk
from app.page.answers import Refused
from app.page.together import Together
from app.page.trino_sql import Trino

# Of all tables, and of one table's parts. A part that takes longer is asked for again.
ANSWER_S = 12.0
STATEMENT_S = 45.0
TABLES_MAX = 2_000
COLUMNS_MAX = 20_000
EDGES_MAX = 50_000
ROWS_MAX = 100
STEPS_MAX = 400
ASKED_DAYS = 30
_TABLES = """
SELECT table_schema, table_name, kind, description, owner, domain, array_join(tags, ', ') AS tags,
  classification, array_join("key", ', ') AS "key", contract_version, "rows", bytes, old_bytes, log_bytes,
  oldest_version, oldest_version_at, limited_at, state,
  round(seconds_behind, 1) AS seconds_behind, freshness_met, verdict, verified_at
FROM ops.tables ORDER BY table_schema, table_name"""
_COLUMNS = """
SELECT table_schema, table_name, column_name, type, description, classification, is_key
FROM ops.columns ORDER BY table_schema, table_name, position"""
_EDGES = """
SELECT from_namespace, from_name, from_column, to_namespace, to_name, to_column, kind, made_by, detail
FROM ops.lineage"""
_EXPECTATIONS = """
SELECT rule, action, sum(rows_broken) AS rows_broken, max(found_at) AS last_broken
FROM ops.expectations WHERE lower(table_name) = {name}
GROUP BY rule, action ORDER BY last_broken DESC"""
_QUARANTINE = """
SELECT rule, count(*) AS open_entries, min(quarantined_at) AS since
FROM ops.quarantine WHERE lower(table_name) = {name} AND status = 'open'
GROUP BY rule ORDER BY open_entries DESC"""
_VERSIONS = """
SELECT to_version AS version, kind, outcome, policy, detail AS change, recorded_at
FROM ops.schema_changes WHERE lower(table_name) = {name}
ORDER BY recorded_at DESC"""
_OF_SILVER = {"expectations": _EXPECTATIONS, "quarantine": _QUARANTINE, "versions": _VERSIONS}
_ASKERS = f"""
SELECT user_name, count(*) AS questions, count_if(error IS NOT NULL) AS failed, max(event_time) AS last_asked
FROM ops.audit
WHERE day >= current_date - INTERVAL '{ASKED_DAYS}' DAY AND kind IN ('query', 'verb')
  AND contains(split(tables, ', '), {{whole}})
GROUP BY user_name ORDER BY last_asked DESC"""
_SILVER_ONLY = {"message": "only tables of silver have it"}
_NO_AUDIT = {
    "message": "this stack does not record who asks",
    "hint": "audit = true in its profile turns that on: docs/governance.md",
}
Answer = dict[str, Any]


class DescribedTables:
    """Asks Trino for the tables that the registrar has described, and for what is known of one."""

    def __init__(self, trino: Trino) -> None:
        self._trino = trino
        self._parts: Together[Answer] = Together()

    def all(self) -> Answer:
        """Return `tables` and `columns`, each as `{columns, rows, more}`.

        Raises: Refused, also where the registrar has described nothing yet.
        """
        questions = {
            "tables": partial(self._run, _TABLES, TABLES_MAX),
            "columns": partial(self._run, _COLUMNS, COLUMNS_MAX),
        }
        answers = self._parts.ask(questions, ANSWER_S)
        if len(answers) < len(questions):
            raise Refused(503, message=f"Trino has not answered within {ANSWER_S:.0f} s; ask again")
        for answer in answers.values():
            if "none" in answer:
                raise Refused(503, message="the tables are not described yet", hint="./headwater status tables")  # fmt: skip
            if "error" in answer:
                raise Refused(503, **answer["error"])
        return answers

    def table(self, schema: str, name: str) -> Answer:
        """Return what is known of a table beside its description.

        Returns: `expectations`, `quarantine`, `versions` and `askers`, each as `{columns, rows, more}`,
            `{none}` where this stack has no such thing, `{asked}` (no answer yet) or `{error}`.
        """
        literals = {"name": _literal(name), "whole": _literal(f"{schema}.{name}")}
        statements = {**(_OF_SILVER if schema == "silver" else {}), "askers": _ASKERS}
        questions: dict[str, Callable[[], Answer]] = {
            part: partial(self._run, statement.format(**literals), ROWS_MAX)
            for part, statement in statements.items()
        }
        # Of this table only: a later request is about another one.
        answers = Together[Answer]().ask(questions, ANSWER_S)
        found: Answer = {part: {"none": _SILVER_ONLY} for part in _OF_SILVER}
        found.update({part: answers.get(part, {"asked": True}) for part in statements})
        if "none" in found["askers"]:
            found["askers"] = {"none": _NO_AUDIT}
        return found

    def lineage(self, schema: str, name: str, column: str = "") -> Answer:
        """Return `up` and `down`: the edges that lead to a table or column, and away from it, nearest first.

        Each is `{distance, from, to, kind, made_by, detail}`, with `{namespace, name, column}` at both ends;
        `start` is the table or column itself, as the edges name it; `more`: some are left out. Raises: Refused.
        """
        answer = self._run(_EDGES, EDGES_MAX)
        if "none" in answer:
            raise Refused(503, message="there is no lineage yet", hint="./headwater status tables")
        if "error" in answer:
            raise Refused(503, **answer["error"])
        edges = [_edge(row) for row in answer["rows"]]
        try:
            start = find(edges, f"{LAKE}:{schema}.{name}" + (f".{column}" if column else ""))
        except HeadwaterError:  # nothing is known of it
            return {"start": None, "up": [], "down": [], "more": answer["more"]}
        ways = {"up": walk(edges, start, up=True), "down": walk(edges, start, up=False)}
        return {
            "start": start._asdict(),
            **{way: [_step(one) for one in steps[:STEPS_MAX]] for way, steps in ways.items()},
            "more": answer["more"] or any(len(steps) > STEPS_MAX for steps in ways.values()),
        }

    def _run(self, statement: str, rows_max: int) -> Answer:
        try:
            return self._trino.run(statement, rows_max, within_s=STATEMENT_S)
        except Refused as refused:
            if refused.facts.get("sqlstate") == "TABLE_NOT_FOUND":
                return {"none": refused.facts}
            return {"error": refused.facts}


def _edge(row: list[str | None]) -> Edge:
    origin = Place(row[0] or "", row[1] or "", row[2] or "")
    target = Place(row[3] or "", row[4] or "", row[5] or "")
    return Edge(origin, target, row[6] or "", row[7] or "", row[8] or "")


def _step(step: Step) -> Mapping[str, Any]:
    edge = step.edge
    return {
        "distance": step.distance,
        "from": edge.origin._asdict(),
        "to": edge.target._asdict(),
        "kind": edge.kind,
        "made_by": edge.made_by,
        "detail": edge.detail,
    }


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
