"""Chooses the options of a fit by cross-validation, each option tried once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.models.factors import AlsOptions

Told = Callable[[str], None]


class OptionSearch:
    """Compares options by one figure.

    Args:
        validated: the figure of some options over all folds.
        part, measure: what is fitted and what the figure is called, for `told`.
        best: `min` for an error, `max` for a gain.
        told: takes a line for each option that is tried.
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
        """Return the best of these; the first of equals. One alone is not tried."""
        if len(candidates) == 1:
            return candidates[0]
        for one in candidates:
            if one not in self._tried:
                self._tried[one] = self._validated(one)
                self._told(f"{self._part}: {one}: {self._measure} {self._tried[one]:.4f}")
        return self._best(candidates, key=self._tried.__getitem__)

    def tried(self) -> dict[str, float]:
        """Return the figure of each option that was tried."""
        return {str(one): value for one, value in self._tried.items()}
