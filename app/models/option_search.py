"""Chooses the options of a fit by cross-validation, and tries each option once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.models.factors import AlsOptions

Told = Callable[[str], None]


class OptionSearch:
    """Compares options by one measure.

    Args:
        validated: computes an option's measure over all folds.
        part, measure: the names of the fitted model and of the measure, for `told`.
        best: `min` for an error, `max` for a gain.
        told: called with a line for each tried option.
    """

    def __init__(
        self,
        validated: Callable[[AlsOptions], float],
        part: str,
        measure: str,
        best: Callable[..., AlsOptions],
        told: Told,
    ) -> None:
        self._validated = validated
        self._part, self._measure = part, measure
        self._best = best
        self._told = told
        self._tried: dict[AlsOptions, float] = {}

    def best_of(self, candidates: Sequence[AlsOptions]) -> AlsOptions:
        """Return the best of these options, the first of equal ones. A single option is not tried."""
        if len(candidates) == 1:
            return candidates[0]
        for one in candidates:
            if one not in self._tried:
                self._tried[one] = self._validated(one)
                self._told(f"{self._part}: {one}: {self._measure} {self._tried[one]:.4f}")
        return self._best(candidates, key=self._tried.__getitem__)

    def tried(self) -> dict[str, float]:
        """Return the measure of each tried option."""
        return {str(one): value for one, value in self._tried.items()}
