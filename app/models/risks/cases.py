"""Cases: the facts that are known at a moment, and the later outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.errors import HeadwaterError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
KNOWN_MIN = 50  # cases of each outcome, in training and in the test


@dataclass(frozen=True)
class Cases:
    """A row for each case.

    `ids`: the columns that identify it; `at`: the day of its cut-off; `features`: (cases, features) in the
    order of `names`; `outcomes`: whether the risk came true (meaningless for `open` cases).
    """

    ids: pa.Table
    at: Floats
    names: tuple[str, ...]
    features: Floats
    outcomes: Flags

    def __len__(self) -> int:
        return len(self.at)

    def where(self, chosen: Flags) -> Cases:
        """Return the chosen cases."""
        return Cases(
            self.ids.filter(pa.array(chosen)),
            self.at[chosen],
            self.names,
            self.features[chosen],
            self.outcomes[chosen],
        )


@dataclass(frozen=True)
class Split:
    """Cases to learn from, later ones to test with, and those whose outcome is not known yet."""

    training: Cases
    test: Cases
    open: Cases


def cases_of(rows: pa.Table, ids: Sequence[str], names: Sequence[str]) -> Cases:
    """Return the cases of a table with `ids`, `at`, the features `f0`, `f1`, … called `names`, and `outcome`."""
    features = [rows[f"f{number}"].to_numpy().astype(np.float64) for number in range(len(names))]
    return Cases(
        rows.select(list(ids)),
        rows["at"].to_numpy().astype(np.float64),
        tuple(names),
        np.column_stack(features) if len(rows) else np.empty((0, len(names))),
        rows["outcome"].to_numpy().astype(np.bool_),
    )


def joined(parts: Sequence[Cases]) -> Cases:
    """Return the cases of all parts."""
    return Cases(
        pa.concat_tables([part.ids for part in parts]),
        np.concatenate([part.at for part in parts]),
        parts[0].names,
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.outcomes for part in parts]),
    )


def check_known(what: str, split: Split) -> None:
    """Raise HeadwaterError if a part has too few cases of an outcome to learn or test it."""
    for part, cases in (("to learn from", split.training), ("to test with", split.test)):
        came = int(cases.outcomes.sum())
        if min(came, len(cases) - came) < KNOWN_MIN:
            raise HeadwaterError(
                f"there are too few cases of {what} {part}",
                detail=f"observed {came:,} that came true and {len(cases) - came:,} that did not; "
                f"{KNOWN_MIN} of each are needed",
                hint="`./headwater store grow` adds two years of orders",
            )
