"""A risk's fits as files: the tested fit, with which the next run compares, and the fit that scores."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn

from app.models.risks.cases import Cases, Floats
from app.models.risks.classifiers import Risk
from app.models.tracking.champion import Figure, Measure, Rival, Verdict, hold_out_of, verdict
from app.models.tracking.tracker import Champion

# A proper score: only the true chance minimises it. The metrics include it.
BRIER = Measure("brier", smaller_is_better=True)


@dataclass(frozen=True)
class SavedRisk:
    """The fits of an earlier run. `test_began`: it has learnt from no outcome after this day."""

    test_began: float
    tested: Any
    scoring: Risk


def save_risk(folder: Path, test: Cases, tested: Risk, final: Risk) -> None:
    """Write the fits into an existing folder. `test`: the cases with which `tested` was tested."""
    joblib.dump(tested.model, folder / "tested.joblib")
    joblib.dump(final.model, folder / "final.joblib")
    about = {
        "names": test.names,
        "scikit-learn": sklearn.__version__,
        "method": final.method,
        "usual": final.usual.tolist(),
        "test_began": float(test.at.min()),
    }
    (folder / "about.json").write_text(json.dumps(about))


def load_risk(folder: Path, present: Risk, names: tuple[str, ...]) -> SavedRisk | str:
    """Read the fits, or return why they cannot be used today.

    Args:
        present: its metrics are copied; scores do not use them. names: of today's features.
    """
    about = json.loads((folder / "about.json").read_text())
    if tuple(about["names"]) != names:
        return "knows other features"
    if about["scikit-learn"] != sklearn.__version__:
        return f"was fitted by scikit-learn {about['scikit-learn']}"
    usual: Floats = np.array(about["usual"])
    final = joblib.load(folder / "final.joblib")
    scoring = Risk(about["method"], present.quality, present.base, {}, final, usual)
    return SavedRisk(about["test_began"], joblib.load(folder / "tested.joblib"), scoring)


def compared(
    test: Cases, risk: Risk, champion: Champion | None
) -> tuple[Verdict, SavedRisk | None]:
    """Compare a new fit with the champion, on the test cases from which neither has learnt.

    Returns: the verdict, and the champion's fits if it stays and can score.
    """
    if champion is None:
        return verdict(BRIER, figure_of(test, risk), None), None
    saved: SavedRisk | str = champion.why_not
    if champion.folder is not None:
        saved = load_risk(champion.folder, risk, test.names)
    if isinstance(saved, str):
        rival = Rival(champion.version, None, saved)
        return verdict(BRIER, figure_of(test, risk), rival), None
    both = test.where(test.at >= saved.test_began)
    rival = Rival(champion.version, figure_of(both, replace(risk, model=saved.tested)))
    said = verdict(BRIER, figure_of(both, risk), rival)
    return said, None if said.moves else saved


def figure_of(cases: Cases, risk: Risk) -> Figure:
    """Return the Brier score of a fit on cases with known outcomes; NaN without cases."""
    ids = [column.to_numpy() for column in cases.ids.columns]
    value = float("nan")
    if len(cases):
        value = float(((risk.chances(cases.features) - cases.outcomes) ** 2).mean())
    return Figure(value, hold_out_of(*ids, cases.at, cases.outcomes))
