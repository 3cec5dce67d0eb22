"""Keeps Trino's catalog in step with the lake: service `tables` (`python -m app.catalog.registrar`).

It makes `ops.verification` and `ops.incidents` if they are missing. Then each pass does the following:
  1. list the folders of silver, ops, history and ml in the lake;
  2. unregister tables whose folder is gone, register new tables, and register again tables that were recreated
     (with another Delta table id);
  3. make each view whose tables all exist, make it again when their columns have changed, and drop
     it when one of them is gone;
  4. write descriptions of tables, views and columns into `ops.meaning`, and the lineage into `ops.lineage`, if
     they have changed;
  5. if people have roles (`access`), write Trino's rules, if they have changed.
What Trino refuses is logged once and tried again later; it never stops the other tables.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from deltalake.exceptions import DeltaError

from app.catalog.access_rules import AccessRules
from app.catalog.catalogue import Catalogue, MadeView, MeaningTable
from app.catalog.delta_tables import Identity, LakeTables
from app.catalog.lake_catalog import Catalog, TrinoUnreachable
from app.catalog.lineage_input import LineageTables, view_queries
from app.catalog.views import View, read_views
from app.environment.settings import load
from app.errors import HeadwaterError
from app.lake.object_store import refuse_overwriting
from app.lineage.event_sender import sender_from_environment
from app.lineage.keeper import LineageKeeper
from app.lineage.lineage_table import LineageTable
from app.lineage.run_reader import RunReader
from app.verify.verification_table import VerificationTable
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import SettingsError, load_store
from spark_streaming.streams.stream_contract import stream_topic
from spark_streaming.tables.announced_columns import FOLDER_VARIABLE

log = logging.getLogger("registrar")

# Schemas of each source, and of the lake: jobs write the tables of ml and files, as Delta tables in their folders or
# by SQL.
SOURCE_SCHEMAS = ("silver", "ops", "history")
SHARED_SCHEMAS = ("ml", "files")
SCHEMAS = (*SOURCE_SCHEMAS, *SHARED_SCHEMAS, "reports")
PASS_INTERVAL_S = 1.0
# A pass lists five folders. If nothing has changed for a minute, the next one comes a second later.
REST_INTERVAL_S = 2.0
AT_REST_AFTER_S = 60.0
# Opening a table's log costs some 10 ms. A pass checks all new tables and a tenth of the others, five at
# most, so that a thousand tables cost no more than fifty.
PASSES_PER_ROUND = 10
CHECKS_PER_PASS_MAX = 5
RECONCILE_INTERVAL_S = 300.0
BACKOFF_MAX_S = 5.0
# A column of a previous release's quarantine with unmasked values; the job removes it.
RAW_COLUMN = "raw_value"


class Registrar:
    """One catalog, one lake. Not safe for use by several threads.

    Args:
        source: the further source whose lake it is: the schemas are then `silver_<source>`, `ops_<source>`.
        catalogue, lineage: get all tables and views after each pass. rules: the access rules, if people have roles.
    """

    def __init__(
        self,
        tables: LakeTables,
        catalog: Catalog,
        views: Sequence[View],
        clock: Callable[[], float] = time.monotonic,
        source: str = "",
        catalogue: Catalogue | None = None,
        lineage: LineageKeeper | None = None,
        rules: AccessRules | None = None,
    ) -> None:
        self._suffix = f"_{source}" if source else ""
        self._folders = SOURCE_SCHEMAS if source else (*SOURCE_SCHEMAS, *SHARED_SCHEMAS)
        self._schemas = SCHEMAS if not source else tuple(f"{n}_{source}" for n in SOURCE_SCHEMAS)
        self._tables = tables
        self._catalog = catalog
        self._views = views
        self._clock = clock
        self._registered: set[str] | None = None  # by Trino's answer; None before the first one
        self._known: dict[str, Identity] = {}  # registered, and present in the lake
        self._views_there: set[str] = set()  # by Trino's answer
        self._catalogue = catalogue
        self._lineage = lineage
        self._lineage_tables = LineageTables()
        self._rules = rules
        self._view_columns: dict[str, MadeView] = {}
        self._made: dict[str, object] = {}  # view → its definition and tables when it was made
        self._refused: dict[str, object] = {}  # view → the same, when Trino refused it
        self._problems: dict[str, str] = {}  # table or view → the error
        self._turns: list[str] = []  # tables still to check in this round
        self._reconcile_at = 0.0
        self._changed_at = clock()

    @property
    def interval_s(self) -> float:
        """Seconds until the next pass. Where people have roles, silver may be waiting for the rules."""
        at_rest = self._clock() - self._changed_at >= AT_REST_AFTER_S
        return REST_INTERVAL_S if at_rest and self._rules is None else PASS_INTERVAL_S

    @property
    def problems(self) -> dict[str, str]:
        """Return the tables and views that could not be registered or made: `schema.name` → the error."""
        return dict(self._problems)

    def one_pass(self) -> None:
        """Bring the catalog in step with the lake once.

        Raises: TrinoUnreachable; OSError if the object store does not answer. After TrinoUnreachable the next
            pass begins by listing Trino's tables and views.
        """
        before = (dict(self._known), dict(self._made))
        try:
            self._pass(self._clock())
            if before != (self._known, self._made):
                self._changed_at = self._clock()
        except TrinoUnreachable:
            self._registered = None
            raise
        finally:
            # Also without Trino: silver waits until the rules have its new columns.
            if self._rules is not None:
                self._rules.update(self._known, self._views_now())

    def _views_now(self) -> dict[str, MadeView]:
        return {
            view.name: self._view_columns[view.name]
            for view in self._views
            if view.name in self._made
        }

    def _pass(self, now: float) -> None:
        registered = self._registered
        if registered is None or now >= self._reconcile_at:
            registered = self._reconcile()
            self._reconcile_at = now + RECONCILE_INTERVAL_S
        listed = {
            f"{schema}{self._suffix}.{table}": path
            for name, path in self._tables.listed(self._folders).items()
            for schema, table in [_parts(name)]
        }
        for name in sorted(registered - set(listed)):
            if _parts(name)[0] in SHARED_SCHEMAS and name not in self._known:
                continue  # somebody's own, made by SQL
            self._unregister(name, registered, "it is not in the lake any more")
        turn = self._next_turn(listed)
        for name, path in listed.items():
            is_new = name not in self._known and name not in self._problems
            if is_new or name in turn:
                self._update_table(name, path, registered)
        self._update_views()
        views = self._views_now()
        if self._catalogue is not None:
            self._catalogue.update(self._known, listed, views)
        if self._lineage is not None:
            tables = self._lineage_tables.of(self._known)
            self._lineage.update(tables, view_queries(views), listed)

    def _next_turn(self, listed: dict[str, str]) -> set[str]:
        """Choose the tables to check in this pass though they are known, or were refused before."""
        if not self._turns:
            self._turns = sorted(listed)
            self._refused.clear()
        count = min(-(-len(listed) // PASSES_PER_ROUND), CHECKS_PER_PASS_MAX)
        turn, self._turns = set(self._turns[:count]), self._turns[count:]
        return turn

    def _reconcile(self) -> set[str]:
        """List Trino's tables and views, and flush its cache of tables that may have been recreated."""
        self._catalog.make_schemas(self._schemas)
        relations = self._catalog.relations(self._schemas)
        if self._registered is None:
            if self._rules is not None:
                self._rules.close()
            if relations:
                self._catalog.forget_cached_logs()
            self._known.clear()
            self._made.clear()
        registered = {name for name, kind in relations.items() if kind != "VIEW"}
        self._views_there = {
            name for name in set(relations) - registered if _parts(name)[0] not in SHARED_SCHEMAS
        }
        self._registered = registered
        self._known = {n: i for n, i in self._known.items() if n in registered}
        self._made = {n: m for n, m in self._made.items() if n in self._views_there}
        for name in sorted(self._views_there - {view.name for view in self._views}):
            self._drop_view(name, "no file defines it")
        return registered

    def _update_table(self, name: str, path: str, registered: set[str]) -> None:
        try:
            identity = self._tables.identity(path)
            if identity is None:
                if name in registered:
                    self._unregister(name, registered, "it is not in the lake any more")
                return
            if path.startswith("ops/") and identity.holds(RAW_COLUMN):
                if name in registered:
                    self._unregister(name, registered, "it holds raw events, until it is upgraded")
                return
            known = self._known.get(name)
            if name in registered and known and known.table_id != identity.table_id:
                self._unregister(name, registered, "another table took its place")
                self._catalog.forget_cached_logs()
            if name not in registered:
                self._catalog.register(*_parts(name), self._tables.location(path))
                registered.add(name)
                log.info("registered %s", name)
            self._known[name] = identity
            self._problems.pop(name, None)
        except (HeadwaterError, DeltaError) as error:
            self._report(name, error)

    def _unregister(self, name: str, registered: set[str], why: str) -> None:
        self._catalog.unregister(*_parts(name))
        registered.discard(name)
        self._known.pop(name, None)
        log.info("unregistered %s: %s", name, why)

    def _update_views(self) -> None:
        existing: dict[str, object] = dict(self._known)
        for view in self._views:
            if not all(name in existing for name in view.reads):
                self._drop_view(view.name, "a table that it reads does not exist")
                continue
            made_from = (view, tuple(existing[name] for name in view.reads))
            if self._made.get(view.name) != made_from:
                self._make_view(view, made_from)
            if self._made.get(view.name) == made_from:
                existing[view.name] = made_from

    def _make_view(self, view: View, made_from: object) -> None:
        if self._refused.get(view.name) == made_from:
            return
        if self._rules is not None:
            self._rules.withhold(view.name)
        try:
            self._catalog.run_view(view.create_sql())
            columns = tuple(self._catalog.columns(*_parts(view.name)))
        except HeadwaterError as error:
            self._refused[view.name] = made_from
            self._made.pop(view.name, None)
            self._report(view.name, error)
            return
        self._made[view.name] = made_from
        self._view_columns[view.name] = MadeView(view, columns)
        self._views_there.add(view.name)
        self._problems.pop(view.name, None)
        log.info("made view %s", view.name)

    def _drop_view(self, name: str, why: str) -> None:
        self._problems.pop(name, None)
        self._made.pop(name, None)
        if name in self._views_there:
            self._catalog.drop_view(*_parts(name))
            self._views_there.discard(name)
            log.info("dropped view %s: %s", name, why)

    def _report(self, name: str, error: Exception) -> None:
        if self._problems.get(name) != str(error):
            log.warning("cannot keep %s: %s", name, error)
        self._problems[name] = str(error)


def _parts(name: str) -> tuple[str, str]:
    schema, _, table = name.partition(".")
    return schema, table


def serve(registrars: Sequence[Registrar], stop: threading.Event) -> None:
    """Make passes until `stop` is set; wait for a Trino or object store that does not answer."""
    passes, failures = 0, 0
    while not stop.is_set():
        try:
            for registrar in registrars:
                registrar.one_pass()
            if passes == 0:
                log.info("first pass done")
            elif failures:
                log.info("going on after %d failed passes", failures)
            passes, failures = passes + 1, 0
        except (TrinoUnreachable, OSError) as error:
            if failures == 0:
                log.warning("waiting: %s", error)
            failures += 1
        interval_s = min(
            (registrar.interval_s for registrar in registrars), default=PASS_INTERVAL_S
        )
        stop.wait(min(interval_s * 2**failures, BACKOFF_MAX_S))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service, or one pass with `--once` (exit 1 if something could not be registered)."""
    parser = argparse.ArgumentParser(prog="python -m app.catalog.registrar")
    parser.add_argument("--once", action="store_true", help="one pass, then end")
    given = parser.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        registrars = from_environment()
        if given.once:
            for registrar in registrars:
                registrar.one_pass()
            return 1 if any(registrar.problems for registrar in registrars) else 0
    except (HeadwaterError, SettingsError, TrinoUnreachable, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        refuse_overwriting(load_store())
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    make_ops_tables()
    serve(registrars, stop)
    return 0


def make_ops_tables() -> None:
    """Make the tables of `ops` whose views and dashboards have to answer before the first row."""
    lake = Lake(load_store())
    for name, make in (
        ("ops.verification", VerificationTable(lake).make),
        ("ops.incidents", IncidentLog(lake).refresh),
    ):
        try:
            make()
        except (DeltaError, OSError) as error:
            log.warning("%s does not exist before its first row: %s", name, error)


def from_environment() -> list[Registrar]:
    """Make a registrar for each source's lake, Trino and view files that the `HEADWATER_*` variables name."""
    views = Path(os.environ.get("HEADWATER_VIEWS") or _repository() / "trino" / "views")
    url = os.environ.get("HEADWATER_TRINO_URL", "")
    if not url:
        raise HeadwaterError(
            "HEADWATER_TRINO_URL is not set", hint="`headwater up` sets it for its services"
        )
    store, catalog = load_store(), Catalog(url)
    lake = Lake(store)
    tables = LakeTables(lake)
    further = [one for one in os.environ.get("HEADWATER_FURTHER_SOURCES", "").split(",") if one]
    return [
        Registrar(
            tables,
            catalog,
            read_views(views),
            catalogue=Catalogue(MeaningTable(lake), tables),
            lineage=_lineage(lake),
            rules=AccessRules.of(load(), catalog) if os.environ.get(FOLDER_VARIABLE) else None,
        ),
        *(
            Registrar(LakeTables(Lake(store, f"sources/{one}")), catalog, [], source=one)
            for one in further
        ),
    ]


def _lineage(lake: Lake) -> LineageKeeper:
    prefix = os.environ.get("HEADWATER_TOPIC_PREFIX", "hw")
    return LineageKeeper(
        LineageTable(lake),
        RunReader(lake),
        prefix,
        partial(stream_topic, prefix),
        _repository() / "superset" / "assets",
        sender_from_environment(lake),
    )


def _repository() -> Path:
    return Path(__file__).resolve().parents[2]


if __name__ == "__main__":
    sys.exit(main())
