"""Verbs that prove and show the project: tests, benchmarks, faults, each one pytest run; pictures."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

import typer

from app.cli.needs import require
from app.errors import HeadwaterError
from app.printing import Format

TESTS = Path(__file__).resolve().parents[3] / "tests"
PROOF_S_MAX = 2_400  # a stack's start, and the comparison of all rows
KILL_S_MAX = 120  # of one kill with its recovery, on average
DEFAULT_TIERS = ("unit", "spark", "integration", "e2e", "faults")
TIERS = (*DEFAULT_TIERS, "versions", "cluster", "bench", "containers")
# Tiers that run together, and how pytest-xdist distributes their tests ("": one process).
RUNS = (
    (("unit",), "worksteal"),
    (("spark", "integration"), "loadfile"),  # a file's tests share a Spark session and tables
    (("e2e", "faults"), "loadfile"),  # and a worker's files a stack: half of the time it waits
    (("versions",), ""),
    (("cluster",), ""),
    (("bench",), ""),
    (("containers",), ""),
)
WORKERS_MAX = 4
WORKER_BYTES = 6 << 30  # a whole stack; or Spark's JVM, an object store, Kafka and Connect
PYTEST = ("-m", "pytest", "--durations=15", "--durations-min=10")
PICTURES = ("-m", "tests.support.page_pictures")
NOTHING_COLLECTED = 5  # pytest's exit code
INTERRUPTED = 130


def test(
    tier: list[str] = typer.Argument(
        None,
        help=f"Of {', '.join(TIERS)}; by default all but versions, cluster, bench, containers and what is marked slow; of faults the smoke ones.",
    ),
    pytest_options: str = typer.Option(
        "", "--pytest", help='More options for pytest, as one text: --pytest "-x -k fold".'
    ),
    python: bool = typer.Option(
        False, "--python", help="Only print the interpreter of the environment for tests."
    ),
) -> None:
    """Run tests: whole tiers, or the default ones.

    The output is pytest's. Tiers run side by side where cores and memory allow.

    Examples:
      ./headwater test
      ./headwater test unit --pytest "-x -k fold"

    Exit codes:
      0  All passed.
      1  Some failed.
      2  It was interrupted.
      5  No test has that name.
    """
    if python:
        print(sys.executable)
        return
    raise typer.Exit(run_phases(phases(tier or []), shlex.split(pytest_options)))


def bench(
    name: str = typer.Argument(None, help="A file of tests/bench; lists them when left out."),
) -> None:
    """Run one benchmark; it prints its figures.

    Examples:
      ./headwater bench freshness
    """
    raise typer.Exit(run_phases([[str(named_file("bench", name))]], ["-s"]))


def fault(
    name: str = typer.Argument(None, help="A file of tests/faults; lists them when left out."),
    minutes: float = typer.Option(
        20, "--minutes", min=0.1, help="How long a scenario with a random workload runs it."
    ),
    kills: int = typer.Option(
        None, "--kills", min=1, max=10_000, help="How many kills a scenario with random ones does."
    ),
    hours: float = typer.Option(
        None, "--hours", min=0.01, max=1_000, help="Soak: end after this time, before all kills."
    ),
    seed: int = typer.Option(None, "--seed", min=0, help="The seed; a random one when left out."),
    fmt: Format = typer.Option(
        Format.table, "--format", "-F", help="Soak: json prints the report alone on stdout."
    ),
) -> None:
    """Run one fault scenario: kill or cut something, then prove that nothing was lost.

    Examples:
      ./headwater fault kills
      ./headwater fault ddl --minutes 10
      ./headwater fault soak --kills 100 --seed 7 --format json
    """
    os.environ["HEADWATER_FAULT_MINUTES"] = str(minutes)
    if seed is not None:
        os.environ["HEADWATER_SEED"] = str(seed)
    os.environ.setdefault("HEADWATER_SEED", "random")  # each run another history
    for variable, value in (("KILLS", kills), ("HOURS", hours)):
        if value is not None:
            os.environ[f"HEADWATER_FAULT_{variable}"] = str(value)
    # What a test may take by default is less than a long workload does, with its proof after it.
    least_s = max(minutes * 60, (hours or 0) * 3600, (kills or 0) * KILL_S_MAX)
    options = ["-s", f"--timeout={least_s + PROOF_S_MAX:.0f}"]
    path = str(named_file("faults", name))
    if fmt is not Format.json:
        raise typer.Exit(run_phases([[path]], options))
    with tempfile.TemporaryDirectory(prefix="headwater-report-") as folder:
        report = Path(folder) / "report.json"
        os.environ["HEADWATER_FAULT_OUT"] = str(report)
        code = run_phases([[path]], options, out=sys.stderr)
        if not report.exists():
            raise HeadwaterError(
                f"`{name}` wrote no report",
                detail=f"pytest ended with {code}",
                hint="its output is above; only `soak` writes a report",
            )
        print(report.read_text(), end="")
    raise typer.Exit(code)


def screenshots(
    out: Path = typer.Option(
        None, "--out", help="The folder that gets them; app/page/pictures when left out."
    ),
) -> None:
    """Take pictures of the page of the running demo stack, and record an edit on its way.

    It needs Chromium, and edits a rating meanwhile.

    Examples:
      ./headwater screenshots --out pictures
    """
    require("app", "silver", "trino")
    where = ["--out", str(out.resolve())] if out else []
    paths = [str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen([sys.executable, *PICTURES, *where], env=environment) as process:
        raise typer.Exit(wait_for(process))


def phases(tiers: list[str]) -> list[list[str]]:
    """Return the pytest arguments of each run that these tiers need, in order."""
    unknown = [tier for tier in tiers if tier not in TIERS]
    if unknown:
        raise HeadwaterError(
            f"there is no test tier `{unknown[0]}`", hint=f"tiers are {', '.join(TIERS)}"
        )
    # The default run has an hour; a named tier is run whole. Each scenario of the faults loads all cores.
    selected = [] if tiers else ["-m", "not slow and (smoke or not faults)"]
    found = []
    for together, how in RUNS:
        folders = [str(TESTS / tier) for tier in together if tier in (tiers or DEFAULT_TIERS)]
        if folders:
            alone = "faults" in tiers and "faults" in together
            found.append([*spread("" if alone else how), *selected, *folders])
    return found


def spread(how: str) -> list[str]:
    """Return pytest's options for several workers, as many as cores and memory allow."""
    import psutil

    workers = min(os.cpu_count() or 1, psutil.virtual_memory().total // WORKER_BYTES, WORKERS_MAX)
    if not how or workers < 2:
        return []
    # In the order of the folders: a worker that came back to one would start its servers again,
    # and Spark's clients do not forget an object store that is gone.
    return ["-n", str(workers), "--dist", how, "--no-loadscope-reorder"]


def run_phases(phases: list[list[str]], options: list[str], out: TextIO | None = None) -> int:
    """Run pytest for each phase, also after a failed one. Returns: the first exit code that is not 0.

    Args:
        out: what gets pytest's output; by default stdout.
    """
    sys.stdout.flush()
    codes = []
    for arguments in phases:
        command = [sys.executable, *PYTEST, *arguments, *options]
        with subprocess.Popen(command, cwd=TESTS.parent, stdout=out) as process:
            codes.append(wait_for(process))
        if codes[-1] in (INTERRUPTED, 2):  # pytest's own code for Ctrl-C is 2
            break
    found = [code for code in codes if code != NOTHING_COLLECTED]  # a choice by name is in one
    return next((code for code in found if code), 0) if found else NOTHING_COLLECTED


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait for pytest's exit code; after Ctrl-C or SIGTERM it first stops the processes of its tests."""
    before = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    try:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                continue  # pytest, in the same terminal, gets Ctrl-C as well
            return code if code >= 0 else INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def named_file(tier: str, name: str | None) -> Path:
    """Return the test file of `tier` called `name` (with or without `test_` and `.py`)."""
    folder = TESTS / tier
    known = {path.stem.removeprefix("test_"): path for path in sorted(folder.glob("test_*.py"))}
    short = (name or "").removesuffix(".py").removeprefix("test_")
    if short not in known:
        raise HeadwaterError(
            f"there is no `{name}` in tests/{tier}" if name else f"name one of tests/{tier}",
            hint=f"there are {', '.join(known) or 'none yet'}",
        )
    return known[short]
