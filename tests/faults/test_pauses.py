"""Each process stands still for longer than the time-outs of the others, and goes on (SIGSTOP, SIGCONT).

`HEADWATER_FAULT_SECONDS` is how long, `HEADWATER_FAULT_SERVICES=kafka,silver` which of them.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from tests.support.fault import Fault, Scene
from tests.support.frozen import frozen

# Connect's session lasts 10 s, silver's lease half a minute; a service that hangs for a minute is restarted.
LASTS_S = float(os.environ.get("HEADWATER_FAULT_SECONDS") or 40)
# What fires within that time; the others have none that is as quick.
ALERTS: dict[str, tuple[str, ...]] = {
    "kafka": ("KafkaDown",), "s3": (), "connect": ("ConnectorFailed", "CollectorFailing", "ServiceDown"),
    "postgres": ("CollectorFailing", "ServiceDown"), "silver": (), "trino": ("TrinoDown",), "tables": (),
    "capture": (), "metrics": ("ExporterDown",), "supervisor": (),
}  # fmt: skip
CHOSEN = (os.environ.get("HEADWATER_FAULT_SERVICES") or ",".join(ALERTS)).split(",")

pytestmark = pytest.mark.timeout(1_200)


def test_each_process_may_stand_still_beyond_every_time_out(scene: Scene, seed: int) -> None:
    with scene.load(seed):
        for service in CHOSEN:
            scene.suffer(pause(scene, service))
    scene.prove()


def pause(scene: Scene, service: str) -> Fault:
    """A pause of one service's processes, or of the supervisor."""
    held = ExitStack()

    def freeze() -> None:
        if service == "supervisor":  # alone: all services are its children
            held.enter_context(frozen(scene.stack.supervisor_pid, children=False))
        else:
            held.enter_context(frozen(scene.stack.observed(service).pid))

    return Fault(f"{service} stands still", freeze, held.close, ALERTS[service], LASTS_S)
