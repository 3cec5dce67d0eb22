"""The models of `recommend` as MLflow stores them: this file ("from code") beside their numbers (`saved_factors`).

To load one you need NumPy and pandas, and nothing of Headwater. Input: `customer_id`, `movie_id`. Output: the
predicted stars, or the score by which lists are ordered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class FactorModel(PythonModel):
    """Factors of customers and movies; with averages they predict stars."""

    def load_context(self, context: Any) -> None:
        """Read the numbers."""
        with np.load(context.artifacts["factors"], allow_pickle=False) as found:
            self._of = dict(found)

    # MLflow takes annotations of `predict` for the model's signature.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return a number for each pair."""
        of = self._of
        customer, rates = self._places("customer_ids", model_input["customer_id"].to_numpy())
        movie, rated = self._places("movie_ids", model_input["movie_id"].to_numpy())
        both = rates & rated
        product = np.einsum(
            "ij,ij->i", of["customer_factors"][customer], of["movie_factors"][movie]
        )
        if "mean" in of:
            averages = np.where(rates, of["customer_averages"][customer], 0.0)
            averages += np.where(rated, of["movie_averages"][movie], 0.0)
            return np.clip(of["mean"] + averages + np.where(both, product, 0.0), 0.5, 5.0)
        known = rates & of["known_customers"][customer]
        product[~(rated & of["known_movies"][movie])] = -np.inf
        popular = np.where(rated, of["popular"][movie], -np.inf)
        return np.where(known, product, popular)

    def _places(self, ids: str, wanted: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        known = self._of[ids]
        places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return places, known[places] == wanted


set_model(FactorModel())
