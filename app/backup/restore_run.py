"""Restores a backup into an empty home.

1. `checked`: read everything once and compare the checksums, before anything is written.
2. `prepare_home`: write the home's own files, with another topic prefix: the old topics' events are
   gone with their Kafka, and bronze never mixes two histories of one topic.
3. `fill_buckets`: put the objects; the object store must run.
The note `restored.json` says how far it is, so an interrupted restore continues. At the next `up` the
connectors see the note and have every table read again (`app/connectors/stream/restored_stream.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from app.backup.backup_run import THREADS, Progress
from app.backup.buckets import Buckets
from app.backup.home_files import unpack_home
from app.backup.manifest import Copied, Manifest, unpacked
from app.backup.target import Target
from app.environment.restored import RestoredLake, next_prefix, read_restored, write_restored
from app.environment.settings import Settings, load
from app.errors import HeadwaterError
from app.lake.merged_position import merged_position
from spark_streaming.storage.lake import Lake

PART = 500
# A home with one of these has been used.
USED = ("settings.toml", "secrets.json", "data", "run")


def checked(target: Target, progress: Progress) -> tuple[Manifest, list[Copied]]:
    """Compare the checksum of everything in a backup; return its manifest and its objects.

    Raises: HeadwaterError if there is no backup, or it is damaged.
    """
    manifest = target.manifest()
    if manifest is None:
        raise HeadwaterError(
            f"there is no whole backup in {target.place}",
            detail="it has no manifest.json",
            hint="if a backup was interrupted, run `headwater backup` again; else give another place",
        )
    entries = unpacked(target.read(manifest.list_sha256))
    names = [manifest.home_sha256, *dict.fromkeys(one.sha256 for one in entries)]

    def check(name: str) -> None:
        for _ in target.chunks(name):
            pass

    _each(check, names, lambda done: f"checksums: {done:,} of {len(names):,} files", progress)
    return manifest, entries


def refuse_used_home(home: Path, origin: str) -> None:
    """Raise HeadwaterError if a home has been used, except by an interrupted restore of this origin."""
    begun = read_restored(home)
    if begun is not None and not begun.complete and begun.origin == origin:
        return
    used = [name for name in USED if (home / name).exists()]
    if used:
        raise HeadwaterError(
            f"the home {home} is not empty, so nothing is restored into it",
            detail=f"it has {', '.join(used)}",
            hint="give an empty one (HEADWATER_HOME=FOLDER), or remove this one's data for good: "
            "./headwater down --wipe",
        )


def prepare_home(
    home: Path, target: Target, manifest: Manifest, passphrase: str, profile: Path | None
) -> Settings:
    """Write the home's own files; return its settings. A second call does the same again."""
    refuse_used_home(home, manifest.id)
    content = target.read(manifest.home_sha256)
    home.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
    unpack_home(content, home, passphrase, encrypted=manifest.encrypted)
    write_restored(home, RestoredLake(manifest.id))
    before = load(home, profile)
    settings = load(home, profile, topic_prefix=next_prefix([before.topic_prefix]))
    settings.save()
    return settings


def fill_buckets(
    home: Path, buckets: Buckets, target: Target, entries: list[Copied], progress: Progress
) -> None:
    """Put the backup's objects into the home's buckets, those that are not there yet.

    Raises: HeadwaterError if the buckets have other objects.
    """
    wanted = {one.place: one for one in entries}
    there = {(one.role, one.key): one.size for one in buckets.listing()}
    foreign = next((place for place in there if place not in wanted), None)
    if foreign is not None:
        raise HeadwaterError(
            "the buckets are not empty, so nothing is restored into them",
            detail=f"{foreign[0]} has {foreign[1]}, which is not of this backup",
            hint="name empty buckets (`bronze_bucket`, `lake_bucket`) in a --profile",
        )
    missing = [one for one in entries if there.get(one.place) != one.size]

    def put(one: Copied) -> None:
        with target.opened(one.sha256) as file:
            buckets.put(one.role, one.key, file, one.attributes)

    _each(put, missing, lambda done: f"{done:,} of {len(missing):,} objects", progress)
    restored = read_restored(home)
    assert restored is not None
    write_restored(home, replace(restored, complete=True))


def take_over(home: Path, profile: Path | None) -> Settings:
    """Give an empty home the lake of a lost one, in an object store of the user's own.

    Raises: HeadwaterError if the home is used, or the bucket holds no lake.
    """
    refuse_used_home(home, "")
    settings = load(home, profile)
    if settings.profile.embedded_s3:
        raise HeadwaterError(
            "`--from-bucket` needs the object store that has outlived the home",
            hint="name it by s3_endpoint, s3_access_key and s3_secret_key in a --profile; an embedded store "
            "is lost with its home: restore a backup",
        )
    if not settings.profile.embedded_kafka:
        raise HeadwaterError(
            "Kafka has outlived the home, too, so the lake is not taken over: its stream just goes on",
            detail="the profile names a kafka_address",
            hint="./headwater up --profile with the same profile in an empty home",
        )
    found = merged_position(Lake(settings.store))
    if not found.prefixes:
        raise HeadwaterError(
            f"bucket `{settings.store.lake_bucket}` holds no lake to take over",
            detail="it has no ledger (ops/ledger)",
            hint="is it the right bucket (`lake_bucket`)? A new home on empty buckets: `headwater up`",
        )
    chosen = load(home, profile, topic_prefix=next_prefix(found.prefixes))
    home.mkdir(parents=True, exist_ok=True)
    chosen.save()
    write_restored(home, RestoredLake("", complete=True))
    return chosen


def _each(
    act: Callable[[Any], None],
    items: Sequence[Any],
    said: Callable[[int], str],
    progress: Progress,
) -> None:
    left, done = iter(items), 0
    with ThreadPoolExecutor(THREADS) as pool:
        while part := list(islice(left, PART)):
            list(pool.map(act, part))
            done += len(part)
            progress.waiting(said(done))
