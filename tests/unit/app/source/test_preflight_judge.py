"""Preflight's findings from the facts about a source."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.source.database import Address
from app.source.definition_notes import Notes, _digest
from app.source.facts import Facts, Publication, Role, Slot
from app.source.findings import LEFT_OUT, MISSING, NOTE, OK, Finding
from app.source.source_judge import judge
from app.source.source_tables import Names, SourceTable

SECRET = "SCRAM-SHA-256$4096:verifier"
ORDERS = SourceTable(
    oid=1, schema="public", name="orders", kind="r", persistence="p", identity="d", has_key=True,
    identity_is_key=False, published=True, readable=True, row_security=False, generated=(),
)  # fmt: skip
READY = Facts(
    address=Address("db.example", 5432, "shop", "owner"),
    names=Names(),
    version=150018,
    in_recovery=False,
    wal_level="logical",
    slots_max=8,
    slots_used=1,
    senders_max=8,
    senders_used=1,
    slot_wal_keep="4GB",
    managed_replication_role=False,
    role=Role("headwater_capture", exists=True, may_log_in=True, may_replicate=True),
    own_tables=frozenset({"heartbeat", "signal"}),
    own_tables_writable=True,
    publication=Publication(all_tables=False, publishes_all=True, via_root=True),
    slot=None,
    tables=(ORDERS,),
    notes=Notes(_digest(), readable=True, may_make=True),
)


def standing(facts: Facts) -> dict[str, Finding]:
    """The findings that are not `ok`, by check."""
    return {finding.check: finding for finding in judge(facts, SECRET) if finding.status != OK}


def test_a_source_with_everything_in_place_has_nothing_standing() -> None:
    assert standing(READY) == {}


def test_a_schema_that_another_role_made_is_refused() -> None:
    unprepared = replace(
        READY, publication=None, own_tables=frozenset(), notes=Notes(may_make=True)
    )
    [finding] = standing(replace(unprepared, foreign_owners=("mallory",))).values()
    assert (finding.check, finding.status) == ("schema headwater", MISSING)
    assert "mallory" in finding.observed
    assert all(fix.run is None for fix in finding.fixes)  # `--apply` runs nothing


def test_a_session_that_others_could_read_is_noted() -> None:
    [finding] = standing(replace(READY, private=False)).values()
    assert (finding.check, finding.status) == ("encryption", NOTE)


def test_an_empty_source_is_told_every_statement_that_it_needs_and_no_password() -> None:
    bare = replace(
        READY, role=Role("headwater_capture"), own_tables=frozenset(), own_tables_writable=False,
        publication=None, tables=(replace(ORDERS, published=False, readable=False),),
    )  # fmt: skip
    found = standing(bare)
    assert {check: f.status for check, f in found.items()} == {
        "role headwater_capture": MISSING,
        "schema headwater": MISSING,
        "publication headwater": MISSING,
        "table public.orders": LEFT_OUT,
    }
    shown = "\n".join(finding.remedy for finding in found.values())
    for statement in (
        'CREATE ROLE "headwater_capture" LOGIN REPLICATION PASSWORD',
        "CREATE SCHEMA IF NOT EXISTS headwater;",
        'CREATE PUBLICATION "headwater" FOR TABLE "headwater"."heartbeat", "headwater"."signal"',
        'GRANT SELECT ON TABLE "public"."orders" TO "headwater_capture";',
        'ALTER PUBLICATION "headwater" ADD TABLE ONLY "public"."orders";',
    ):
        assert statement in shown
    assert SECRET not in shown


def test_what_is_run_for_the_role_carries_the_verifier() -> None:
    [finding] = [
        f for f in judge(replace(READY, role=Role("cap")), SECRET) if f.check == "role cap"
    ]
    run = finding.fixes[0].run
    assert run is not None
    assert f"PASSWORD '{SECRET}'" in run.as_string(None)


@pytest.mark.parametrize(
    ("change", "check", "remedy"),
    [
        ({"wal_level": "replica"}, "wal_level", "ALTER SYSTEM SET wal_level = 'logical';"),
        ({"version": 120010}, "version", ""),
        ({"in_recovery": True}, "primary", "-- give the primary's address"),
        (
            {"address": Address("/var/run/postgresql", 5432, "shop", "owner")},
            "address",
            "-- give a host and a port",
        ),
        ({"slots_used": 8}, "max_replication_slots", "max_replication_slots = 12"),
        ({"senders_used": 8}, "max_wal_senders", "max_wal_senders = 12"),
        ({"own_tables_writable": False}, "schema headwater", "GRANT SELECT, INSERT"),
        (
            {"slot": Slot("wal2json", "shop", "reserved", True)},
            "slot headwater",
            "pg_drop_replication_slot('headwater')",
        ),
        (
            {"publication": Publication(True, True, True)},
            "publication headwater",
            "DROP PUBLICATION headwater;",
        ),
        (
            {"publication": Publication(False, False, True)},
            "publication headwater",
            "publish = 'insert, update, delete, truncate'",
        ),
    ],
)
def test_what_stops_every_capture_is_missing_with_its_remedy(
    change: dict[str, object], check: str, remedy: str
) -> None:
    [finding] = standing(replace(READY, **change)).values()  # type: ignore[arg-type]
    assert (finding.check, finding.status) == (check, MISSING)
    assert remedy in finding.remedy


def test_what_needs_a_restart_or_a_persons_decision_is_never_run() -> None:
    facts = replace(READY, wal_level="replica", publication=Publication(True, True, True))
    assert [m.run for f in standing(facts).values() for m in f.fixes] == [None] * 4


def test_a_full_server_is_no_problem_where_the_slot_is_already_this_stacks() -> None:
    slot = Slot("pgoutput", "shop", "reserved", True)
    assert standing(replace(READY, slots_used=8, senders_used=8, slot=slot)) == {}


def test_unlimited_wal_for_slots_is_noted_and_stops_nothing() -> None:
    [finding] = standing(replace(READY, slot_wal_keep="-1")).values()
    assert finding.status == NOTE
    assert "until the disk is full" in finding.observed


@pytest.mark.parametrize(
    ("change", "status", "observed", "remedy"),
    [
        (
            {"has_key": False, "published": False},
            LEFT_OUT,
            "no primary key, and its replica identity is not FULL",
            'ALTER TABLE "public"."orders" REPLICA IDENTITY FULL;',
        ),
        (
            {"has_key": False},
            MISSING,
            "the application's own UPDATE and DELETE would fail",
            'ALTER TABLE "public"."orders" REPLICA IDENTITY FULL;',
        ),
        (
            {"identity": "n"},
            MISSING,
            "replica identity NOTHING",
            'ALTER TABLE "public"."orders" REPLICA IDENTITY DEFAULT;',
        ),
        (
            {"identity": "i"},
            MISSING,
            "by an index that is not the primary key's",
            'ALTER TABLE "public"."orders" REPLICA IDENTITY DEFAULT;',
        ),
        ({"has_key": False, "identity": "f"}, NOTE, "no key: equal rows are kept as copies", ""),
        ({"persistence": "u", "published": False}, LEFT_OUT, "an unlogged table", ""),
        ({"cursors": ("c",), "published": False}, LEFT_OUT, "type refcursor (c)", ""),
        ({"kind": "f", "published": False}, LEFT_OUT, "a foreign table", ""),
        ({"twins": ("id, ID",), "published": False}, LEFT_OUT, "differ in case only (id, ID)", ""),
        ({"twins": ("id, ID",)}, MISSING, "differ in case only", "DROP TABLE ONLY"),
        ({"readable": False}, MISSING, "the capture role may not read it", "GRANT SELECT"),
        ({"row_security": True}, MISSING, "row-level security", "BYPASSRLS"),
        ({"generated": ("total",)}, NOTE, "generated columns are not in the log: total", ""),
        ({"published": False}, LEFT_OUT, "not in the publication", "ADD TABLE ONLY"),
        ({"published": False, "kind": "p"}, LEFT_OUT, "not in the publication", "ADD TABLE"),
    ],
)
def test_each_state_of_a_table_is_told_with_its_one_line_fix(
    change: dict[str, object], status: str, observed: str, remedy: str
) -> None:
    facts = replace(READY, tables=(replace(ORDERS, **change),))  # type: ignore[arg-type]
    [finding] = standing(facts).values()
    assert (finding.check, finding.status) == ("table public.orders", status)
    assert observed in finding.observed
    assert remedy in finding.remedy


def test_columns_that_travel_as_text_are_named_with_their_types() -> None:
    facts = replace(READY, as_text={"public.orders": ("stay (interval)", "area (box)")})
    [finding] = standing(facts).values()
    assert (finding.status, finding.observed) == (
        NOTE,
        "carried as text: stay (interval), area (box)",
    )


def test_of_two_tables_of_one_silver_name_the_captured_one_keeps_it_else_the_older_one() -> None:
    other = replace(ORDERS, oid=0, name="Orders", published=False)
    found = standing(replace(READY, tables=(other, ORDERS)))
    assert {check: f.status for check, f in found.items()} == {"table public.Orders": LEFT_OUT}
    assert "silver table with public.orders" in found["table public.Orders"].observed
    both = replace(READY, tables=(other, replace(ORDERS, published=False)))
    assert "silver table with public.Orders" in standing(both)["table public.orders"].observed


def test_a_captured_table_whose_topic_kafka_would_refuse_is_to_be_withdrawn() -> None:
    tables = (
        replace(ORDERS, schema="s", name="e_t"),
        replace(ORDERS, oid=2, schema="s_e", name="t"),
    )
    [finding] = standing(replace(READY, tables=tables)).values()
    assert (finding.check, finding.status) == ("table s_e.t", LEFT_OUT)
    assert finding.remedy == 'ALTER PUBLICATION "headwater" DROP TABLE ONLY "s_e"."t";'


def test_while_a_slot_is_there_publishing_is_left_to_the_running_stack() -> None:
    slot = Slot("pgoutput", "shop", "reserved", True)
    facts = replace(READY, slot=slot, tables=(replace(ORDERS, published=False),))
    [finding] = standing(facts).values()
    assert [fix.run for fix in finding.fixes] == [None]
    assert "the running stack adds it" in finding.remedy


def test_a_role_that_lacks_rights_is_altered_not_created() -> None:
    role = Role("cap", exists=True, login_error="password authentication failed for user")
    [finding] = standing(replace(READY, role=role)).values()
    assert finding.observed == (
        "may not log in; may not replicate; its password is not this stack's"
    )
    assert finding.remedy.splitlines() == [
        'ALTER ROLE "cap" LOGIN;',
        'ALTER ROLE "cap" REPLICATION;',
        "ALTER ROLE \"cap\" PASSWORD '<capture_password of secrets.json>';",
    ]


def test_a_provider_that_lends_replication_by_a_role_gets_that_role_granted() -> None:
    facts = replace(READY, role=Role("cap"), managed_replication_role=True)
    [finding] = standing(facts).values()
    assert "GRANT rds_replication TO" in finding.remedy
    assert "REPLICATION PASSWORD" not in finding.remedy


def test_another_password_is_set_only_where_nobody_uses_the_role() -> None:
    refused = replace(READY.role, login_error="password authentication failed")
    [alone] = standing(replace(READY, role=refused)).values()
    assert [bool(fix.run) for fix in alone.fixes] == [True]
    [shared] = standing(replace(READY, role=replace(refused, in_use=True))).values()
    assert [fix.run for fix in shared.fixes] == [None]
    assert "slot_name, publication_name and capture_role" in shared.remedy


def test_a_stack_with_names_of_its_own_is_told_them_in_every_statement() -> None:
    names = Names("second", "second_pub", "heartbeat_second", "signal_second")
    bare = replace(READY, names=names, own_tables=frozenset(), publication=None)
    found = standing(replace(bare, tables=(replace(ORDERS, published=False),)))
    assert set(found) == {"schema headwater", "publication second_pub", "table public.orders"}
    text = "\n".join(finding.remedy for finding in found.values())
    assert 'CREATE TABLE IF NOT EXISTS "headwater"."signal_second"' in text
    assert 'CREATE PUBLICATION "second_pub" FOR TABLE "headwater"."heartbeat_second"' in text
    assert 'ALTER PUBLICATION "second_pub" ADD TABLE' in text


def test_several_hosts_and_a_key_that_the_connector_cannot_read_stop_everything() -> None:
    several = replace(READY, address=replace(READY.address, host="one,two"))
    assert standing(several)["address"].status == MISSING
    found = standing(replace(READY, tls_problem="sslkey=/k holds a RSA PRIVATE KEY"))["tls"]
    assert (found.status, found.observed) == (MISSING, "sslkey=/k holds a RSA PRIVATE KEY")


def test_columns_that_hold_less_than_their_type_are_one_note() -> None:
    days = tuple(f"public.orders.day_{n}" for n in range(7))
    facts = replace(READY, limited={"infinity": days, "NaN": ("public.orders.total",)})
    [finding] = standing(facts).values()
    assert (finding.check, finding.status) == ("values beyond silver's types", NOTE)
    assert "NaN: in public.orders.total. infinity: in public.orders.day_0" in finding.observed
    assert finding.observed.endswith("public.orders.day_4 and 2 more")


def test_intervals_that_may_be_infinite_are_noted_where_the_server_knows_such() -> None:
    facts = replace(READY, version=170_011, intervals=("public.orders.open_for",))
    [finding] = standing(facts).values()
    assert (finding.check, finding.status) == ("infinite intervals", NOTE)
    assert "00:00:00" in finding.observed and "public.orders.open_for" in finding.observed
    assert standing(replace(facts, version=160_015)) == {}


def test_a_source_that_does_not_note_definitions_can_be_captured_and_is_told_how_they_are() -> None:
    [finding] = [f for f in judge(replace(READY, notes=Notes(may_make=True)), SECRET) if f.fixes]
    assert (finding.check, finding.status) == ("definitions", NOTE)
    assert [fix for fix in finding.fixes if fix.run is None] == []
    function = next(fix.shown for fix in finding.fixes if "CREATE OR REPLACE" in fix.shown)
    assert function.count("$body$") == 2
    assert "SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'" in function
    stale = replace(READY, notes=replace(READY.notes, digest="of an earlier release"))
    assert standing(stale).keys() == {"definitions"}


def test_an_owner_who_may_make_no_event_trigger_is_shown_the_statements_only() -> None:
    [finding] = [f for f in judge(replace(READY, notes=Notes()), SECRET) if f.fixes]
    assert {fix.run for fix in finding.fixes} == {None}
    assert "superuser" in finding.observed


def test_a_lost_slot_stops_no_start_and_names_the_verb_that_recovers_it() -> None:
    [found] = standing(replace(READY, slot=Slot("pgoutput", "shop", "lost", False))).values()
    assert (found.check, found.status, found.fixes) == ("slot headwater", NOTE, ())
    assert "`headwater recover`" in found.observed
