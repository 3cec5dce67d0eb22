"""The registrar's side of `app.access`: gives Trino's tables and views to the rules' keeper, and tests filters in
Trino."""

from __future__ import annotations

import json
from collections.abc import Mapping

from app.access.accounts import Users, own_schema
from app.access.rules_keeper import RulesKeeper, TableFacts, ViewFacts
from app.access.view_classes import ViewQuery
from app.catalog.catalogue import MadeView, trino_type
from app.catalog.delta_tables import Identity
from app.catalog.lake_catalog import Catalog, TrinoUnreachable, identifier
from app.environment.service_problem import report_problem
from app.environment.settings import Settings
from app.errors import HeadwaterError
from spark_streaming.contract.contract_files import Classification
from spark_streaming.tables.meaning import classification_of

SERVICE = "tables"


class AccessRules:
    """Keeps the access rules in step with the registrar's tables and views. Not for several threads."""

    def __init__(self, keeper: RulesKeeper, catalog: Catalog, users: Users) -> None:
        self._keeper = keeper
        self._catalog = catalog
        self._users = users
        self._schemas: set[str] = set()
        self._last: object = None

    @classmethod
    def of(cls, settings: Settings, catalog: Catalog) -> AccessRules:
        """Make the rules of a home."""
        users = Users(settings)

        def report(problem: str) -> None:
            message, _, rest = problem.partition("\n")
            error = HeadwaterError(message, hint=rest.removeprefix("  hint: ")) if problem else None
            report_problem(settings.home, SERVICE, error)

        keeper = RulesKeeper(
            settings.home,
            settings.contracts_folders,
            people=lambda: {name: one.role for name, one in users.listed().items()},
            refusal=lambda table, where: refusal(catalog, table, where),
            report=report,
        )
        return cls(keeper, catalog, users)

    def close(self) -> None:
        """Show people nothing until the next `update`."""
        self._keeper.close()
        self._last = None
        self._schemas.clear()

    def withhold(self, view: str) -> None:
        """Forbid reading a view that is about to be replaced."""
        self._keeper.withhold(view)
        self._last = None

    def update(self, tables: Mapping[str, Identity], views: Mapping[str, MadeView]) -> None:
        """Bring the rules in step. Raises: TrinoUnreachable; OSError if the home cannot be written."""
        now = ({n: (one, one.meaning) for n, one in tables.items()}, views, self._keeper.stamps())
        if now == self._last:
            return
        self._last = None
        self._keeper.update(
            {name: table_facts(one) for name, one in tables.items()},
            {name: view_facts(one) for name, one in views.items()},
        )
        wanted = {own_schema(name) for name in self._users.listed()}
        if not wanted <= self._schemas:
            self._catalog.make_schemas(sorted(wanted))
            self._schemas = wanted
        self._last = now


def table_facts(identity: Identity) -> TableFacts:
    """Return a table's columns, and the classes in its own metadata."""
    types = {
        column["name"].lower(): trino_type(column["type"])
        for column in json.loads(identity.columns)["fields"]
    }
    said = {
        name.lower(): kind
        for name, one in identity.meaning.columns.items()
        if (kind := classification_of(one.classification)) is not None
    }
    return TableFacts(types, said)


def view_facts(made: MadeView) -> ViewFacts:
    """Return a view's columns, and the inputs of their classes."""
    view = made.view
    declared: dict[str, Classification] = dict(view.classes)
    released = frozenset(name for name, _ in view.releases)
    return ViewFacts(ViewQuery(view.reads, view.select, declared, released), dict(made.columns))


def refusal(catalog: Catalog, table: str, where: str) -> str:
    """Return why Trino refuses a row filter of a table; "" if Trino accepts it."""
    schema, _, name = table.partition(".")
    try:
        catalog.explain(f"SELECT 1 FROM {identifier(schema)}.{identifier(name)} WHERE ({where})")
    except TrinoUnreachable:
        raise
    except HeadwaterError as error:
        return error.detail or error.message
    return ""
