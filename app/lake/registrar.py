"""Keeps Trino's catalog in step with the lake; service `tables` (`python -m app.lake.registrar`).

It makes `ops.verification` where it is not there yet. Then each pass, in this order:
  1. list the folders of silver and ops in the lake;
  2. unregister tables whose folder went, register those that are new, and those that were made
     again (another Delta table id) anew;
  3. make each view whose tables are all there, make it again when their columns changed, and
     drop it when one of them went.
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
from pathlib import Path
from typing import Protocol

from deltalake.exceptions import DeltaError

from app.errors import HeadwaterError
from app.lake.catalog import Catalog, TrinoUnreachable
from app.lake.tables import Identity, LakeTables
from app.lake.verification_table import VerificationTable
from app.lake.views import View, read_views
from spark_streaming.lake import Lake
from spark_streaming.settings import SettingsError, load_store_settings

log = logging.getLogger("registrar")

TABLE_SCHEMAS = ("silver", "ops")
SCHEMAS = ("silver", "ops", "reports")
PASS_INTERVAL_S = 1.0
# Opening a table's log costs some 10 ms: new tables are looked at in each pass, the others take
# turns, so that each is seen every ten passes, and a thousand tables cost no more than fifty.
PASSES_PER_ROUND = 10
CHECKS_PER_PASS_MAX = 5
RECONCILE_INTERVAL_S = 300.0
BACKOFF_MAX_S = 5.0


class Tables(Protocol):
    """What the registrar asks of the lake."""

    def listed(self, schemas: Sequence[str]) -> dict[str, str]: ...

    def identity(self, path: str) -> Identity | None: ...

    def location(self, path: str) -> str: ...


class Registrar:
    """One catalog, one lake. Not safe for use by several threads."""

    def __init__(
        self,
        tables: Tables,
        catalog: Catalog,
        views: Sequence[View],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = tables
        self._catalog = catalog
        self._views = views
        self._clock = clock
        self._registered: set[str] | None = None  # as Trino says; None before it was asked
        self._known: dict[str, Identity] = {}  # registered, and seen in the lake
        self._views_there: set[str] = set()  # as Trino says
        self._made: dict[str, object] = {}  # view → what this process made it from
        self._refused: dict[str, object] = {}  # view → what Trino refused to make it from
        self._troubles: dict[str, str] = {}  # table or view → what is wrong with it
        self._turns: list[str] = []  # tables that are yet to be looked at in this round
        self._reconcile_at = 0.0

    @property
    def troubles(self) -> dict[str, str]:
        """What could not be registered or made: `schema.name` → why."""
        return dict(self._troubles)

    def one_pass(self) -> None:
        """Bring the catalog in step once.

        Raises: TrinoUnreachable, and OSError where the store does not answer; then the next pass
            begins by asking Trino what it has.
        """
        try:
            self._pass(self._clock())
        except TrinoUnreachable:
            self._registered = None
            raise

    def _pass(self, now: float) -> None:
        registered = self._registered
        if registered is None or now >= self._reconcile_at:
            registered = self._reconcile()
            self._reconcile_at = now + RECONCILE_INTERVAL_S
        listed = self._tables.listed(TABLE_SCHEMAS)
        for name in sorted(registered - set(listed)):
            self._unregister(name, registered, "it is not in the lake any more")
        turn = self._next_turn(listed)
        for name, path in listed.items():
            is_new = name not in self._known and name not in self._troubles
            if is_new or name in turn:
                self._keep_table(name, path, registered)
        self._keep_views()

    def _next_turn(self, listed: dict[str, str]) -> set[str]:
        """The tables to look at in this pass though they are known, or were refused before."""
        if not self._turns:
            self._turns = sorted(listed)
            self._refused.clear()
        count = min(-(-len(listed) // PASSES_PER_ROUND), CHECKS_PER_PASS_MAX)
        turn, self._turns = set(self._turns[:count]), self._turns[count:]
        return turn

    def _reconcile(self) -> set[str]:
        """Ask Trino what it has; forget what it may have cached of tables made again since."""
        self._catalog.make_schemas(SCHEMAS)
        found = self._catalog.relations(SCHEMAS)
        if self._registered is None:
            if found:
                self._catalog.forget_cached_logs()
            self._known.clear()
            self._made.clear()
        registered = {name for name, kind in found.items() if kind != "VIEW"}
        self._views_there = set(found) - registered
        self._registered = registered
        self._known = {n: i for n, i in self._known.items() if n in registered}
        self._made = {n: m for n, m in self._made.items() if n in self._views_there}
        for name in sorted(self._views_there - {view.name for view in self._views}):
            self._drop_view(name, "no file defines it")
        return registered

    def _keep_table(self, name: str, path: str, registered: set[str]) -> None:
        try:
            identity = self._tables.identity(path)
            if identity is None:
                if name in registered:
                    self._unregister(name, registered, "it is not in the lake any more")
                return
            before = self._known.get(name)
            if name in registered and before and before.table_id != identity.table_id:
                self._unregister(name, registered, "another table took its place")
                self._catalog.forget_cached_logs()
            if name not in registered:
                self._catalog.register(*_parts(name), self._tables.location(path))
                registered.add(name)
                log.info("registered %s", name)
            self._known[name] = identity
            self._troubles.pop(name, None)
        except (HeadwaterError, DeltaError) as error:
            self._trouble(name, error)

    def _unregister(self, name: str, registered: set[str], why: str) -> None:
        self._catalog.unregister(*_parts(name))
        registered.discard(name)
        self._known.pop(name, None)
        log.info("unregistered %s: %s", name, why)

    def _keep_views(self) -> None:
        there: dict[str, object] = dict(self._known)
        for view in self._views:
            if not all(name in there for name in view.reads):
                self._drop_view(view.name, "a table that it reads is not there")
                continue
            made_from = (view, tuple(there[name] for name in view.reads))
            if self._made.get(view.name) != made_from:
                self._make_view(view, made_from)
            if self._made.get(view.name) == made_from:
                there[view.name] = made_from

    def _make_view(self, view: View, made_from: object) -> None:
        if self._refused.get(view.name) == made_from:
            return
        try:
            self._catalog.run_view(view.create_sql())
        except HeadwaterError as error:
            self._refused[view.name] = made_from
            self._made.pop(view.name, None)
            self._trouble(view.name, error)
            return
        self._made[view.name] = made_from
        self._views_there.add(view.name)
        self._troubles.pop(view.name, None)
        log.info("made view %s", view.name)

    def _drop_view(self, name: str, why: str) -> None:
        self._troubles.pop(name, None)
        self._made.pop(name, None)
        if name in self._views_there:
            self._catalog.drop_view(*_parts(name))
            self._views_there.discard(name)
            log.info("dropped view %s: %s", name, why)

    def _trouble(self, name: str, error: Exception) -> None:
        if self._troubles.get(name) != str(error):
            log.warning("cannot keep %s: %s", name, error)
        self._troubles[name] = str(error)


def _parts(name: str) -> tuple[str, str]:
    schema, _, table = name.partition(".")
    return schema, table


def serve(registrar: Registrar, stop: threading.Event) -> None:
    """Make passes until `stop` is set; a Trino or a store that does not answer is waited for."""
    passes, failures = 0, 0
    while not stop.is_set():
        try:
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
        stop.wait(min(PASS_INTERVAL_S * 2**failures, BACKOFF_MAX_S))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service, or one pass with `--once` (exit 1 where something could not be kept)."""
    parser = argparse.ArgumentParser(prog="python -m app.lake.registrar")
    parser.add_argument("--once", action="store_true", help="one pass, then end")
    given = parser.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        registrar = from_environment()
        if given.once:
            registrar.one_pass()
            return 1 if registrar.troubles else 0
    except (HeadwaterError, SettingsError, TrinoUnreachable, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    make_verification_table()
    serve(registrar, stop)
    return 0


def make_verification_table() -> None:
    """Its view, and with it a dashboard, is to answer before the first verification."""
    try:
        VerificationTable(Lake(load_store_settings())).make()
    except (DeltaError, OSError) as error:
        log.warning("ops.verification is not there before the first round: %s", error)


def from_environment() -> Registrar:
    """The registrar of the lake, Trino and view files that the `HEADWATER_*` variables name."""
    views = Path(os.environ.get("HEADWATER_VIEWS") or _repository_views())
    url = os.environ.get("HEADWATER_TRINO_URL", "")
    if not url:
        raise HeadwaterError(
            "HEADWATER_TRINO_URL is not set", hint="`headwater up` sets it for its services"
        )
    tables = LakeTables(Lake(load_store_settings()))
    return Registrar(tables, Catalog(url), read_views(views))


def _repository_views() -> Path:
    return Path(__file__).resolve().parents[2] / "trino" / "views"


if __name__ == "__main__":
    sys.exit(main())
