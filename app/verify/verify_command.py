"""Runs the verification that the options of `verify` describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from app.errors import HeadwaterError
from app.lake.patience import PATIENCE_S, SilverState
from app.verify.table_verification import PART_ROWS, Options, run_verify
from app.verify.verify_bronze import run_verify_bronze
from app.verify.verify_continuous import Pace, run_continuous
from app.verify.verify_work import Sample


@dataclass(frozen=True)
class Asked:
    """The options of the command line; None for those left out.

    `silver` returns the state of the service `silver`.
    """

    tables: list[str] = field(default_factory=list)
    bronze: bool = False
    sample: str | None = None
    resume: bool = False
    part_rows: int | None = None
    continuous: bool = False
    every_s: float | None = None
    cpu_share_pct: float | None = None
    rounds: int | None = None
    metrics_port: int | None = None
    fmt: str = "table"
    allow_quarantined: bool = False
    wait_s: float | None = None
    silver: Callable[[], SilverState] = SilverState


def run(asked: Asked) -> int:
    """Run the verification; return the exit code (0: all is equal).

    Raises: HeadwaterError if options contradict each other, or a service does not answer.
    """
    _check(asked)
    sample = Sample.parse(asked.sample) if asked.sample is not None else None
    options = Options(
        sample=sample,
        part_rows=asked.part_rows or PART_ROWS,
        resume=asked.resume,
        allow_quarantined=asked.allow_quarantined,
        patience_s=PATIENCE_S if asked.wait_s is None else asked.wait_s,
    )
    if asked.bronze:
        return run_verify_bronze(asked.tables, asked.fmt)
    if asked.continuous:
        pace = Pace.of(asked.every_s, asked.cpu_share_pct, asked.rounds)
        return run_continuous(asked.tables, options, pace, asked.metrics_port)
    return run_verify(asked.tables, asked.fmt, options, asked.silver)


def _check(asked: Asked) -> None:
    if asked.sample and asked.resume:
        raise HeadwaterError(
            "a sample cannot be resumed: each run takes other rows",
            hint="leave out `--sample` or `--resume`",
        )
    others = asked.sample or asked.resume or asked.continuous or asked.allow_quarantined
    others = others or asked.wait_s is not None
    if asked.bronze and others:
        raise HeadwaterError("`--bronze` reads all of bronze", hint="leave out the other options")
    of_rounds = (asked.every_s, asked.cpu_share_pct, asked.rounds, asked.metrics_port)
    if not asked.continuous and any(value is not None for value in of_rounds):
        raise HeadwaterError(
            "`--every`, `--cpu-share`, `--rounds` and `--metrics-port` belong to `--continuous`",
            hint="add `--continuous`",
        )
