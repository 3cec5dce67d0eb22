"""`headwater backup` and `headwater restore`: a lost machine is back from a backup and its source."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format, Steps, print_object

if TYPE_CHECKING:
    from app.environment.settings import Settings

CONTINUES_S = 120.0
LAKE_RESTORED = "lake_restored"  # of app.connectors.stream.continuity, which takes long to import


def backup(
    place: str = typer.Argument(..., metavar="FOLDER|s3://BUCKET/FOLDER", help="Where to put it."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Back up the stack's buckets, settings, secrets and contracts, while everything runs.

    A second backup into the same place copies only what is new, and replaces the first when it is complete; an
    interrupted one continues. It holds your rows and secrets: files are readable by you only, and with
    HEADWATER_BACKUP_PASSPHRASE the secrets are encrypted, too (in a bucket they must be).
    The source is not in it. A bucket's address and keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and the like.

    Examples:
      ./headwater backup /backup/headwater
      ./headwater backup s3://backups/headwater
    """
    require("s3")

    from app.backup.backup_run import back_up
    from app.backup.buckets import Buckets
    from app.backup.home_files import VARIABLE
    from app.backup.target import Target
    from app.environment.settings import load

    settings, began = load(), time.monotonic()
    passphrase = os.environ.get(VARIABLE, "")
    with Steps() as steps:
        steps.waiting("backing up")
        buckets = Buckets.of(settings.store)
        result = back_up(
            settings.home, buckets, Target(place, home=settings.home), passphrase, steps
        )
    made = result.manifest
    print_object(
        {
            "backup": made.id,
            "objects": made.objects,
            "megabytes": round(made.total_bytes / 1e6, 1),
            "copied_objects": result.copied,
            "copied_megabytes": round(result.copied_bytes / 1e6, 1),
            "seconds": round(time.monotonic() - began, 1),
            "secrets": "encrypted" if made.encrypted else "readable by you only",
        },
        fmt,
    )


def restore(
    place: str = typer.Argument(
        None, metavar="[FOLDER|s3://BUCKET/FOLDER]", help="Where the backup is."
    ),
    from_bucket: bool = typer.Option(
        False, "--from-bucket", help="Without a backup: take over the lake in your own store."
    ),
    profile: Path = typer.Option(None, "--profile", help="A TOML file of settings to change."),
    check: bool = typer.Option(False, "--check", help="Only compare all checksums."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Restore a backup into an empty home, or take over the lake of a lost home in your own object store.

    All checksums are compared before anything is written. Then `headwater up` captures again, under another
    topic prefix, and reads every table again from the source; it says whether changes are missing in bronze.
    An interrupted restore continues when it is run again.

    Examples:
      ./headwater restore /backup/headwater
      ./headwater restore /backup/headwater --check
      ./headwater restore --from-bucket --profile FILE
    """
    if bool(place) == from_bucket or (check and from_bucket):
        raise typer.BadParameter("give a backup's place, or --from-bucket")
    from app.environment.settings import home_folder

    began, home = time.monotonic(), home_folder()
    with Steps() as steps:
        if from_bucket:
            from app.backup.restore_run import take_over

            settings = take_over(home, profile)
            answer: dict[str, object] = {"topic_prefix": settings.topic_prefix}
        else:
            answer = _restore(place, home, profile, steps, check=check)
    print_object({**answer, "seconds": round(time.monotonic() - began, 1)}, fmt)
    if not check:
        print("next: ./headwater up, then ./headwater verify", file=sys.stderr)


def _restore(
    place: str, home: Path, profile: Path | None, steps: Steps, *, check: bool
) -> dict[str, object]:
    from app.backup.buckets import Buckets
    from app.backup.home_files import VARIABLE
    from app.backup.restore_run import checked, fill_buckets, prepare_home, refuse_used_home
    from app.backup.target import Target

    target = Target(place)
    manifest = target.manifest()
    if manifest is not None and not check:
        refuse_used_home(home, manifest.id)  # before minutes of reading
    manifest, entries = checked(target, steps)
    answer: dict[str, object] = {
        "backup": manifest.id,
        "made_at": manifest.made_at,
        "objects": manifest.objects,
        "megabytes": round(manifest.total_bytes / 1e6, 1),
    }
    if check:
        return {**answer, "checksums": "right"}
    passphrase = os.environ.get(VARIABLE, "")
    settings = prepare_home(home, target, manifest, passphrase, profile)
    buckets = Buckets.of(settings.store)
    _with_store(settings, steps, lambda: fill_buckets(home, buckets, target, entries, steps))
    return {**answer, "topic_prefix": settings.topic_prefix}


def _with_store(settings: Settings, steps: Steps, act: Callable[[], object]) -> None:
    """Do something while the object store runs: the embedded one is started for it."""
    from app.lake import object_store

    if settings.profile.embedded_s3:
        from app.artefacts.lazy import LazyArtefacts
        from app.environment.settings import ROOT
        from app.launcher.control import Stack

        stack = Stack(settings)
        stack.up(stack.select(["s3"]), LazyArtefacts(ROOT, show=True), steps, named=["s3"])
        try:
            act()
        finally:
            stack.down(steps)
    else:
        object_store.ensure_ready(settings)
        act()


def announce(settings: Settings, steps: Steps) -> None:
    """After the first `up` of a restored home: say how its stream continued."""
    from app.environment.restored import NOTE, read_restored, write_restored
    from app.lake.lakehouse import Lakehouse
    from spark_streaming.ops.incident_table import IncidentLog

    restored = read_restored(settings.home)
    if restored is None or restored.announced:
        return
    restored_at = (settings.home / NOTE).stat().st_mtime
    log, limit = IncidentLog(Lakehouse(settings).lake), time.monotonic() + CONTINUES_S
    while time.monotonic() < limit:
        log.refresh()
        found = [
            one
            for one in log.incidents(kind="gap")
            if one.cause.startswith(LAKE_RESTORED) and one.opened_at.timestamp() >= restored_at
        ]
        if found and found[-1].lsn_to is not None:
            steps.note(f"the lake was restored: {found[-1].cause.partition('; ')[2]}")
            steps.note(
                f"{len(found[-1].tables)} tables are read again from the source; the incident "
                f"{found[-1].id} in ops.incidents is closed when they are"
            )
            write_restored(settings.home, replace(restored, announced=True))
            return
        steps.waiting("waiting for the stream to continue")
        time.sleep(1)
    steps.note("the stream of the restored lake does not continue yet\n  hint: ./headwater recover")
