"""Fixtures and hooks of all tiers."""

from __future__ import annotations

import os
import random
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from app.environment.loopback import keep_direct
from tests.support.examples import examples
from tests.support.order import in_order, worker_scope

if TYPE_CHECKING:
    from tests.support.stack import Stack

HERE = Path(__file__).parent

# The machines are noisy: how long an example took says nothing about the code.
settings.register_profile(
    "headwater",
    max_examples=examples(100),
    deadline=None,
    derandomize=os.environ.get("HEADWATER_SEED") != "random",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("headwater")


def pytest_configure() -> None:
    # A shell starts background jobs with SIGINT ignored, and children inherit that. Then tests
    # that interrupt a command would wait forever.
    keep_direct(os.environ)  # like the command, because tests connect to the same services
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = in_order(
        items, lambda item: item.path.relative_to(HERE).as_posix(), uses_the_common_stack
    )


class ByStack(LoadFileScheduling):
    """A file's tests go to one worker, and so do files that need the same costly stack."""

    def _split_scope(self, nodeid: str) -> str:
        return worker_scope(nodeid.split("::", 1)[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return ByStack(config, log) if config.getoption("dist") == "loadfile" else None


def uses_the_common_stack(item: pytest.Item) -> bool:
    """Whether a test needs the session's `stack`: it requests one, and its file makes none."""
    wanted = getattr(item, "fixturenames", ())
    return "stack" in wanted and not hasattr(getattr(item, "module", None), "stack")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A worker's running stack with the demo store, for all tests that leave it usable."""
    from tests.support.stack import fresh_stack

    with fresh_stack() as fresh:
        fresh.up()
        yield fresh


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of a random history; a failing test's output shows it.

    A test always gets the same seed, so that the same code gives the same result;
    `HEADWATER_SEED=random` draws new seeds.
    """
    wanted = os.environ.get("HEADWATER_SEED") or zlib.crc32(request.node.name.encode())
    chosen = random.randrange(1_000_000) if wanted == "random" else int(wanted)
    print(f"seed: run again with HEADWATER_SEED={chosen}")
    return chosen
