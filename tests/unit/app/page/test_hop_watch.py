"""How hops reach the page's browsers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable

from app.page.hop_watch import Hops

CHILD = (
    "import sys, time\n"
    "print('watching', file=sys.stderr, flush=True)\n"
    "for n in range(3): print('{\"n\": %d}' % n, flush=True)\n"
    "time.sleep(60)\n"
)


async def take(hops: Hops, enough: Callable[[list[str]], bool], last_id: str = "") -> list[str]:
    """Events of one browser until there are enough of them; heartbeats are left out."""
    taken: list[str] = []
    stream = hops.events(last_id)
    try:
        async for event in stream:
            taken.append(event)
            if enough(taken):
                return taken
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
    return taken


def numbers(events: list[str]) -> list[int]:
    found = [line for event in events for line in event.splitlines() if line.startswith("data: {")]
    return [json.loads(line[6:])["n"] for line in found]


def test_browsers_share_one_child_and_a_page_that_is_loaded_again_finds_what_it_had_seen() -> None:
    async def run() -> None:
        hops = Hops([sys.executable, "-c", CHILD])
        try:
            first = await asyncio.wait_for(take(hops, lambda got: len(numbers(got)) == 3), 30)
            assert numbers(first) == [0, 1, 2]
            again = await asyncio.wait_for(take(hops, lambda got: len(numbers(got)) == 3), 30)
            assert numbers(again) == [0, 1, 2] and "watching" in again[0]
            [last] = [line[4:] for line in first[-1].splitlines() if line.startswith("id: ")]
            second = f"{last.partition('-')[0]}-2"
            rest = await asyncio.wait_for(
                take(hops, lambda got: len(numbers(got)) == 1, second), 30
            )
            assert numbers(rest) == [2]
        finally:
            await hops.stop()

    asyncio.run(run())


def test_a_transaction_is_followed_by_the_child() -> None:
    script = (
        "import sys\n"
        "print('watching', file=sys.stderr, flush=True)\n"
        "for line in sys.stdin: print('{\"n\": %d}' % int(line), flush=True)\n"
    )

    async def run() -> None:
        hops = Hops([sys.executable, "-c", script])
        hops.follow(1)  # nobody looks: there is no child, and nothing to follow

        def told(got: list[str]) -> bool:
            if any("watching" in event for event in got) and not numbers(got):
                hops.follow(4_000_000_000)
            return bool(numbers(got))

        try:
            got = await asyncio.wait_for(take(hops, told), 30)
            assert set(numbers(got)) == {4_000_000_000}
        finally:
            await hops.stop()

    asyncio.run(run())


def test_a_child_that_ends_is_started_again_and_one_that_nobody_watches_is_ended() -> None:
    async def run() -> None:
        script = "import sys; print('gone', file=sys.stderr)"
        ending = Hops([sys.executable, "-c", script])
        told = await asyncio.wait_for(
            take(ending, lambda got: any("started again" in event for event in got)), 30
        )
        assert told
        await ending.stop()
        idle = Hops([sys.executable, "-c", CHILD], idle_s=0.01)
        await asyncio.wait_for(take(idle, lambda got: len(numbers(got)) == 3), 30)
        assert idle._runner is not None
        await asyncio.wait_for(idle._runner, 30)

    asyncio.run(run())


def test_a_browser_that_comes_while_the_child_is_being_ended_gets_another() -> None:
    script = (
        "import os, signal, sys, time\n"
        "def slow(*_):\n"
        "    print('ending', file=sys.stderr, flush=True)\n"
        "    time.sleep(0.5)\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, slow)\n"
        "print('{\"n\": %d}' % os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )

    async def run() -> None:
        hops = Hops([sys.executable, "-c", script], idle_s=0.01)
        try:
            first = numbers(await asyncio.wait_for(take(hops, lambda got: bool(numbers(got))), 30))
            while hops._stdin is not None:  # it is told to end a moment later
                await asyncio.sleep(0.005)
            got = await asyncio.wait_for(
                take(hops, lambda got: bool({*numbers(got)} - {*first})), 30
            )
            # What the one that is being ended says is of no use to who waits for another.
            told = [event.partition("data: ")[2] for event in got if "event: note" in event]
            assert {text.strip() for text in told} == {'"starting"'}
        finally:
            await hops.stop()

    asyncio.run(run())
