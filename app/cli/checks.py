"""Verbs that prove the project: tests, benchmarks, faults; each is one pytest run."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import typer

from app.errors import HeadwaterError

TESTS = Path(__file__).resolve().parents[2] / "tests"
DEFAULT_TIERS = ("unit", "spark", "integration", "e2e", "faults")
TIERS = (*DEFAULT_TIERS, "bench")


def mount(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(test)
    app.command()(bench)
    app.command()(fault)


def test(
    tier: list[str] = typer.Argument(
        None, help=f"Of {', '.join(TIERS)}; by default all but bench, and of faults the smoke ones."
    ),
    pytest_options: str = typer.Option(
        "", "--pytest", help='More options for pytest, as one text: --pytest "-x -k fold".'
    ),
    python: bool = typer.Option(
        False, "--python", help="Only print the interpreter of the environment for tests."
    ),
) -> None:
    """Run tests: whole tiers, or the default ones."""
    if python:
        print(sys.executable)
        return
    run_pytest(tier_arguments(tier or []), shlex.split(pytest_options))


def bench(
    name: str = typer.Argument(None, help="A file of tests/bench; lists them when left out."),
) -> None:
    """Run one benchmark; it prints its figures."""
    run_pytest([str(named_file("bench", name))], ["-s"])


def fault(
    name: str = typer.Argument(None, help="A file of tests/faults; lists them when left out."),
    minutes: float = typer.Option(
        20, "--minutes", min=0.1, help="How long a scenario with a random workload runs it."
    ),
) -> None:
    """Run one fault scenario: kill or cut something, then prove that nothing was lost."""
    os.environ["HEADWATER_FAULT_MINUTES"] = str(minutes)
    run_pytest([str(named_file("faults", name))], ["-s"])


def tier_arguments(tiers: list[str]) -> list[str]:
    """The pytest arguments for these tiers, one process for all of them."""
    unknown = [tier for tier in tiers if tier not in TIERS]
    if unknown:
        raise HeadwaterError(
            f"there is no test tier `{unknown[0]}`", hint=f"tiers are {', '.join(TIERS)}"
        )
    folders = [TESTS / tier for tier in tiers or DEFAULT_TIERS]
    arguments = [str(folder) for folder in folders if folder.is_dir()]
    # Of the faults, the default run takes the short ones; a named tier is run whole.
    return arguments if tiers else ["-m", "smoke or not faults", *arguments]


def named_file(tier: str, name: str | None) -> Path:
    """The test file of `tier` called `name` (with or without `test_` and `.py`)."""
    folder = TESTS / tier
    known = {path.stem.removeprefix("test_"): path for path in sorted(folder.glob("test_*.py"))}
    short = (name or "").removesuffix(".py").removeprefix("test_")
    if short not in known:
        raise HeadwaterError(
            f"there is no `{name}` in tests/{tier}" if name else f"name one of tests/{tier}",
            hint=f"there are {', '.join(known) or 'none yet'}",
        )
    return known[short]


def run_pytest(arguments: list[str], options: list[str]) -> None:
    """Replace this process by pytest, in the clone's folder."""
    os.chdir(TESTS.parent)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments, *options])
