"""Trace: the search in bronze for one key among a million events; no stack.

The objects are local files in the sink's form, with 10,000 events and some 8 MiB each, because the
search is measured and not the store. `test_snapshot` times the whole command.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from pathlib import Path

import pyarrow.fs as pa_fs

from app.trace.trace_key import parse_key
from app.trace.trace_scan import Skip, scan
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.bronze_names import BLOCK_OFFSETS
from tests.support.measure import report

EVENTS = 1_000_000
OBJECT_EVENTS = 10_000
KEYS = 200_000
TOPIC = "hw.public.events"
GZIP_LEVEL = 3
CONTRACT = Contract("public", "events", (Column("id", "integer", "int32"),), ("id",))


def test_one_key_among_a_million_events(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    keys = [chosen.randrange(KEYS) for _ in range(EVENTS)]
    size = write(tmp_path, keys)
    bronze = Bronze(pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem()))
    wanted = keys[EVENTS // 2]
    key = parse_key(CONTRACT, str(wanted))

    def measured(limit: int, skip: Skip | None = None) -> tuple[dict[str, float], int]:
        began, cpu = time.monotonic(), time.process_time()
        found = scan(bronze, TOPIC, 0, key, limit=limit, deadline=float("inf"), skip=skip)
        took = {"s": time.monotonic() - began, "cpu_s": time.process_time() - cpu}
        return {name: round(value, 2) for name, value in took.items()}, len(found.found)

    every_version, count = measured(EVENTS)
    assert count == keys.count(wanted)
    # This row was merged after a tenth of the events, so the rest need not be read.
    old = Skip(EVENTS, {0: EVENTS + 1}, {})
    report(
        "trace_1m",
        {
            "events": EVENTS,
            "packed_mib": round(size / (1 << 20), 1),
            "every_version": every_version,
            "newest_version": measured(1)[0],
            "unchanged_for_long": measured(EVENTS, old)[0],
        },
    )


def write(folder: Path, keys: list[int]) -> int:
    """Write the events of `keys` as bronze. Returns: their bytes."""
    size = 0
    for first in range(0, len(keys), OBJECT_EVENTS):
        lines = "".join(
            line(offset, keys[offset]) for offset in range(first, first + OBJECT_EVENTS)
        )
        packed = gzip.compress(lines.encode(), GZIP_LEVEL)
        block = folder / TOPIC / "partition=0" / f"block={first // BLOCK_OFFSETS:016}"
        block.mkdir(parents=True)
        (block / f"{first:020}.jsonl.gz").write_bytes(packed)
        size += len(packed)
    return size


def line(offset: int, key: int) -> str:
    """An update in the form of the connector and the sink, some 800 bytes."""
    source = (
        f'"source":{{"version":"3.7.0.Final","connector":"postgresql","name":"hw","ts_ms":{offset},'
        f'"snapshot":"false","db":"store","sequence":"[\\"{offset}\\",\\"{offset}\\"]",'
        f'"ts_us":{offset}000,"ts_ns":{offset}000000,"schema":"public","table":"events",'
        f'"txId":{offset},"lsn":{offset},"xmin":null}}'
    )
    after = f'{{"id":{key},"v":{offset},"note":"{hash(offset):032x}","price":"{key}.50"}}'
    value = (
        f'{{"before":null,"after":{after},{source},"transaction":{{"id":"{offset}:{offset}",'
        f'"total_order":1,"data_collection_order":1}},"op":"u","ts_ms":{offset}}}'
    )
    dumped = json.dumps(value)
    head = f'{{"topic":"{TOPIC}","partition":0,"offset":{offset},"timestamp":{offset * 10},'
    return f'{head}"headers":[],"key":"{{\\"id\\":{key}}}","value":{dumped}}}\n'
