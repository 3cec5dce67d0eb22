"""Decides where the alias `champion` points: it moves only to a model that is better on the same hold-out."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-9  # two fits to the same rows may differ by this much


@dataclass(frozen=True)
class Measure:
    """The measure by which models of one name are compared."""

    name: str
    smaller_is_better: bool

    def is_better(self, one: float, other: float) -> bool:
        """Whether `one` is better by more than rounding; a value that is not finite is never better."""
        gain = other - one if self.smaller_is_better else one - other
        return math.isfinite(one) and (not math.isfinite(other) or gain > ROUNDING)


@dataclass(frozen=True)
class Figure:
    """A measure's value on a hold-out. `hold_out` identifies the cases and their outcomes: `hold_out_of`."""

    value: float
    hold_out: str


@dataclass(frozen=True)
class Rival:
    """The current champion. `figure`: its measure on the new hold-out; None if it cannot be measured there (`why_not`)."""

    version: str
    figure: Figure | None
    why_not: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether the alias moves to the new model, and why. `rival`: the version that was champion."""

    moves: bool
    why: str
    rival: str = ""


def verdict(measure: Measure, new: Figure, rival: Rival | None) -> Verdict:
    """Compare a new model with the champion.

    A champion that cannot be measured on today's hold-out cannot be applied to today's rows either, so the new
    model replaces it.
    """
    if not math.isfinite(new.value):
        version = "" if rival is None else rival.version
        return Verdict(False, f"its {measure.name} is {new.value}", version)
    if rival is None:
        return Verdict(True, "there was no champion")
    if rival.figure is None:
        return Verdict(True, f"version {rival.version} {rival.why_not}", rival.version)
    if rival.figure.hold_out != new.hold_out:
        why = f"version {rival.version} was measured on another hold-out"
        return Verdict(False, why, rival.version)
    better = measure.is_better(new.value, rival.figure.value)
    than = "better than" if better else "not better than"
    why = (
        f"{measure.name} {new.value:.6f} is {than} {rival.figure.value:.6f} of version {rival.version}"
        " on the same hold-out"
    )
    return Verdict(better, why, rival.version)


def hold_out_of(*columns: npt.NDArray[np.generic]) -> str:
    """Return a digest of the cases of a hold-out: their ids, cut-offs and outcomes, one row for each case.

    Two runs have the same digest if seed, cut-off and the rows that were read give the same cases.
    """
    digest = hashlib.sha256()
    for column in columns:
        digest.update(f"{column.dtype.str} {column.shape}".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]
