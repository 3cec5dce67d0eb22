"""Erases one row's data: `headwater erase TABLE KEY`.

1. Check the table, the source (it has no such row) and silver (it has the source's delete).
2. Search bronze for the key's events, and for the same rows under other keys; search quarantine.
3. Write the plan into the lake. From here on, a command that was killed continues by it.
4. Rewrite each object of bronze: erased events keep their place and lose their content.
5. Ask the silver job to remove entries of quarantine and versions of the history.
6. Remove old files of the Delta tables that still hold the row.
7. Delete Kafka's records up to the last erased event, unless they shall stay.
8. Write the receipt to `lake.ops.erasures`, then remove the plan.

All steps may be repeated. README.md says why they come in this order.
"""

from __future__ import annotations

import getpass
import json
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone

from app.bronze.compact_command import compactor_of
from app.environment.settings import Settings, load
from app.erase import kafka_records as kafka
from app.erase.bronze_objects import BronzeObjects, erase_events
from app.erase.erase_plan import Plan, Plans
from app.erase.guards import (
    POLL_S,
    await_silver,
    check_no_rebuild,
    check_table,
    gone_from_source,
    is_behind,
)
from app.erase.key_search import Searched, search
from app.erase.old_files import check_gone, remove
from app.erase.receipt import Receipt, Receipts, Share, print_receipt
from app.erase.remainders import copies, log_retention, remainders
from app.erase.row_lives import KeyEvent, Lives, follow
from app.erase.stores import RowStores, as_stored, quarantined_places
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.printing import Steps
from app.rebuild.rebuild_guards import entry_in, exclusive
from app.trace.trace import contract_of
from app.trace.trace_key import RowKey, key_in, parse_key
from app.trace.trace_version import named_failures
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.masks import hashed
from spark_streaming.contract.names import topic_of
from spark_streaming.events.event import Place
from spark_streaming.ops.erase_requests import EraseAnswer, EraseDesk, ErasedKey
from spark_streaming.ops.requests import new_id
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.erased_events import Erasure
from spark_streaming.rules.contract_folder import ContractFolder

# Bronze is a second behind Kafka as a rule; longer if the store was away.
BRONZE_WAIT_S = 60.0
NOTHING = "nothing of this row was found in any store"


def run_erase(
    table: str, key: str, fmt: str, *, dry_run: bool, keep_kafka: bool, wait_s: float
) -> None:
    """Erase a row, or with `dry_run` find what would be removed; print the receipt.

    Args:
        keep_kafka: leave Kafka's records until they expire.
        wait_s: how long to wait for silver, and for its answer.
    Raises: HeadwaterError.
    """
    settings = load()
    with Steps() as steps, named_failures():
        erase = Erase(settings, table, key, steps, wait_s=wait_s, keep_kafka=keep_kafka)
        receipt = erase.dry_run() if dry_run else erase.run()
    print_receipt(receipt, fmt)
    if receipt.is_empty:
        print(NOTHING, file=sys.stderr)


class Erase:
    """One erasure, as the command runs it."""

    def __init__(
        self,
        settings: Settings,
        table: str,
        key: str,
        steps: Steps,
        *,
        wait_s: float,
        keep_kafka: bool = False,
    ) -> None:
        self._settings = settings
        self._steps = steps
        self._wait_s = wait_s
        self._keep_kafka = keep_kafka
        self._lake = Lakehouse(settings)
        self._bronze = Bronze(self._lake.bronze_files())
        self._contract = contract_of(self._lake, table)
        check_table(self._contract)
        self._key = parse_key(self._contract, key)
        contract = self._contract
        self._table = self._lake.names.of(contract.schema, contract.table)
        self._topic = topic_of(settings.topic_prefix, contract.schema, contract.table)
        self._secret = settings.secret("mask_secret").encode()
        self._rules = ContractFolder(settings.contracts_folders, self._secret).rules_of(contract)

    def dry_run(self) -> Receipt:
        """Find what an erasure would remove, and remove nothing."""
        plan = self._unfinished() or self._planned()
        return self._receipt(plan, self._found(plan), dry_run=True)

    def run(self) -> Receipt:
        """Erase, or finish an erasure of the key that was interrupted. Returns: the receipt."""
        with exclusive(self._settings, self._table):
            plan = self._unfinished()
            if plan is not None:
                self._steps.note(f"erase {self._table}: continues the erasure of {plan.asked_at}")
                return self._carry_out(plan)
            plan = self._planned()
            shares = self._found(plan)
            if not any(share.found for share in shares):
                return self._receipt(plan, shares, dry_run=False)
            Plans(self._lake.lake.for_writing()).keep(plan)
            return self._carry_out(plan)

    def _unfinished(self) -> Plan | None:
        """Return the plan of an interrupted erasure of this key; note others."""
        digest = key_digest(self._contract, self._key, self._secret)
        found = None
        for plan in Plans(self._lake.lake).all():
            if (plan.table, plan.digest) == (self._table, digest):
                found = plan
            else:
                self._steps.note(
                    f"an erasure in {plan.table} by {plan.asked_by}, {plan.asked_at}, is not finished: "
                    "run the same command for its key again"
                )
        return found

    def _planned(self) -> Plan:
        """Check that the row may be erased, and search for it."""
        lsn = gone_from_source(self._settings, self._contract, [self._key])
        entry = await_silver(
            self._lake,
            self._table,
            lsn,
            self._is_in_silver,
            wait_s=self._wait_s,
            waiting=self._steps.waiting,
        )
        check_no_rebuild(self._lake, self._table, entry)
        found, searched = self._searched()
        if found.going_on:
            gone_from_source(self._settings, self._contract, [self._key, *found.going_on])
        places = quarantined_places(self._lake.lake, self._table, self._key)
        return planned(
            found,
            set(places),
            id=new_id(datetime.now(timezone.utc), uuid.uuid4().hex),
            table=self._table,
            source=f"{self._contract.schema}.{self._contract.table}",
            topic=self._topic,
            digest=key_digest(self._contract, self._key, self._secret),
            asked_by=getpass.getuser(),
            asked_at=datetime.now(timezone.utc).isoformat(),
            searched=searched,
        )

    def _is_in_silver(self) -> bool:
        stores = RowStores(
            self._lake.lake, self._table, self._spans([ErasedKey(self._key.raws)]), ()
        )
        return stores.count(stores.silver, stores.whole) > 0

    def _searched(self) -> tuple[Lives, int]:
        """Search bronze until it has all of Kafka's events of the row. Returns: events, objects searched."""
        limit = time.monotonic() + BRONZE_WAIT_S
        while True:
            objects = 0
            last = Searched()

            def look(keys: Sequence[RowKey]) -> Mapping[RowKey, Sequence[KeyEvent]]:
                nonlocal objects, last
                last = search(self._bronze, self._topic, keys, self._searching)
                objects = max(objects, last.objects)
                return last.events

            found = follow(self._key, look)
            if not is_behind(self._settings, self._topic, last, list(found.events)):
                return found, objects
            if time.monotonic() > limit:
                raise HeadwaterError(
                    "Kafka has events of this row that bronze lacks",
                    detail=f"bronze did not get them within {BRONZE_WAIT_S:.0f} s",
                    hint="`./headwater status connect`",
                )
            self._steps.waiting(
                f"erase {self._table}: waiting for the row's newest events in bronze"
            )
            time.sleep(POLL_S)

    def _searching(self, objects: int) -> None:
        self._steps.waiting(f"erase {self._table}: {objects:,} objects of bronze searched")

    def _spans(self, keys: Iterable[ErasedKey]) -> list[tuple[RowKey, ErasedKey]]:
        names = self._key.names[0]
        spans = []
        for one in keys:
            key = key_in(self._key, dict(zip(names, one.values, strict=True)))
            assert key is not None
            spans.append((as_stored(key, self._rules, self._secret), one))
        return spans

    def _stores(self, plan: Plan) -> RowStores:
        spans, places = self._spans(plan.keys), plan.request().places
        return RowStores(self._lake.lake, self._table, spans, places)

    def _found(self, plan: Plan) -> list[Share]:
        """What the stores have of the row now."""
        stores = self._stores(plan)
        versions = stores.count(stores.history, stores.erased_versions)
        entries = stores.count("ops/quarantine", stores.events)
        files = {store: len(some) for store, some in stores.old_files().items()}
        spans = kafka.spans(self._settings.kafka, self._topic, plan.offsets())
        return shares_of(plan, EraseAnswer(entries, versions), files, spans, removed=False)

    def _carry_out(self, plan: Plan) -> Receipt:
        self._steps.note(
            f"erase {self._table}: {plan.events} events in {len(plan.objects)} objects"
        )
        objects = BronzeObjects(self._settings.store)
        compactor = compactor_of(self._settings, self._lake.lake)
        for partition, offsets in plan.offsets().items():
            place, erasure = (plan.topic, partition), Erasure(plan.id, plan.asked_at)
            erase_events(objects, compactor, place, offsets, erasure)
        answer = self._answer(plan)
        stores = self._stores(plan)
        check_gone(self._lake.lake, stores.silver, stores.whole)
        check_gone(self._lake.lake, stores.history, stores.whole)
        files = {}
        for store, some in stores.old_files().items():
            remove(self._lake.lake, some)
            files[store] = len(some)
        spans = kafka.spans(self._settings.kafka, self._topic, plan.offsets())
        if not self._keep_kafka:
            merged = entry_in(self._lake.ledger(), self._table).offsets.get(self._topic, {})
            kafka.check_read(self._topic, spans, merged)
            kafka.delete(self._settings.kafka, self._topic, spans)
        shares = shares_of(plan, answer, files, spans, removed=True, keep_kafka=self._keep_kafka)
        receipt = self._receipt(plan, shares, dry_run=False, spans=spans)
        Receipts(self._lake.lake).add(receipt)
        EraseDesk(self._lake.lake).remove(plan.id)
        Plans(self._lake.lake).remove(plan)
        return receipt

    def _answer(self, plan: Plan) -> EraseAnswer:
        """Ask the silver job; wait for its answer."""
        desk = EraseDesk(self._lake.lake.for_writing())
        if desk.answer_to(plan.id) is None:
            desk.ask(plan.request())
        limit = time.monotonic() + self._wait_s
        while (answer := desk.answer_to(plan.id)) is None:
            if time.monotonic() > limit:
                raise HeadwaterError(
                    f"the service `silver` has not answered within {self._wait_s:g} s",
                    detail=f"bronze is erased; the request {plan.id} waits in the lake",
                    hint="see `./headwater status silver`; then run the same command again",
                )
            self._steps.waiting(f"erase {self._table}: waiting for the job that writes silver")
            time.sleep(POLL_S)
        if answer.error:
            desk.remove(plan.id)  # the next run asks again
            raise HeadwaterError(
                "the silver job could not erase the row",
                detail=answer.error,
                hint="bronze is erased; run the same command again when the cause is gone",
            )
        return answer

    def _receipt(
        self,
        plan: Plan,
        shares: list[Share],
        *,
        dry_run: bool,
        spans: list[kafka.Span] | None = None,
    ) -> Receipt:
        now = datetime.now(timezone.utc)
        kept, dropped = (spans or [], []) if self._keep_kafka else ([], spans or [])
        versions = BronzeObjects(self._settings.store).keeps_versions()
        logs = log_retention(self._lake, self._table)
        empty = not any(share.found for share in shares)
        return Receipt(
            id="" if empty or dry_run else plan.id,
            table=plan.table,
            source=plan.source,
            topic=plan.topic,
            digest=plan.digest,
            asked_by=plan.asked_by,
            asked_at=plan.asked_at,
            finished_at=now.isoformat(),
            dry_run=dry_run,
            shares=shares,
            offsets=plan.offsets(),
            lsns=plan.lsns,
            remains=remainders(self._settings, self._topic, logs, kept, dropped, versions, now),
            not_touched=copies(self._settings, self._lake, self._table),
        )


def key_digest(contract: Contract, key: RowKey, secret: bytes) -> str:
    """Return the keyed digest of a table's key, 64 hex digits; not the `hash` mask of any value."""
    named = [contract.schema, contract.table, *(str(value) for value in key.values)]
    return hashed(secret)(f"headwater erase {json.dumps(named)}")


def planned(found: Lives, quarantined: set[Place], **said: object) -> Plan:
    """Return the plan that erases these events.

    Args:
        found: the first key is the one that was asked for.
        quarantined: the events of that key that quarantine has.
        said: the other fields of the plan.
    """
    objects: dict[str, tuple[int, list[int]]] = {}
    keys, lsns, places = [], set[int](), set[Place]()
    for number, (key, events) in enumerate(found.events.items()):
        own = {int(event.lsn) for event in events if event.lsn}
        lsns |= own
        keys.append(
            ErasedKey(key.raws, None if number == 0 else (min(own, default=0), max(own, default=0)))
        )
        for event in events:
            objects.setdefault(event.path, (event.partition, []))[1].append(event.offset)
            places.add(Place(str(said["topic"]), event.partition, event.offset))
    return Plan(
        keys=tuple(keys),
        objects={
            path: (p, tuple(sorted(set(some)))) for path, (p, some) in sorted(objects.items())
        },
        entries=tuple(sorted(quarantined - places)),
        lsns=(min(lsns), max(lsns)) if lsns else None,
        **said,  # type: ignore[arg-type]
    )


def shares_of(
    plan: Plan,
    answer: EraseAnswer,
    files: Mapping[str, int],
    spans: Sequence[kafka.Span],
    *,
    removed: bool,
    keep_kafka: bool = False,
) -> list[Share]:
    """Return what each store had of the row, as the receipt's rows."""
    other = [key for key in plan.keys if key.lsns is not None]
    under = f", also under {len(other)} other keys of the same rows" if other else ""
    rows = sum(span.rows for span in spans)
    offsets = sum(span.offsets for span in spans)
    found = [
        (
            "bronze",
            "events",
            plan.events,
            f"in {len(plan.objects)} objects of {plan.searched}{under}",
        ),
        ("quarantine", "entries", answer.entries, "with their events"),
        ("history", "versions", answer.versions, ""),
        ("silver", "rows", 0, "the source's own delete removed it"),
        *(
            (store, "old files", number, "time travel to them fails")
            for store, number in files.items()
        ),
    ]
    shares = [Share(s, what, n, n if removed else 0, detail) for s, what, n, detail in found]
    detail = f"{offsets} offsets go with them; bronze has the other rows' records" if rows else ""
    gone = rows if removed and not keep_kafka else 0
    return [*shares, Share("kafka", "records", rows, gone, detail)]
