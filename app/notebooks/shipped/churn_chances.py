import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Who leaves")


@app.cell
def _():
    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np

    from app.errors import HeadwaterError
    from app.notebooks.lake_client import has_table, sql

    return HeadwaterError, has_table, mo, np, plt, sql


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Who leaves

    The job `churn` gives each customer the chance that no order comes within 60 days. First what it wrote; then the
    test is made again here, to see whether 80 % means 80 %, and what calling the likeliest first is worth.
    """)
    return


@app.cell
def _(has_table, mo):
    ready = has_table("ml.churn")
    mo.stop(
        not ready,
        mo.callout(
            mo.md(
                "The model has not run yet: `./headwater job run churn --wait` needs `./headwater up --jobs`, and enough orders to learn from (`./headwater store grow`)."
            )
        ),
    )
    return (ready,)


@app.cell
def scores(ready, sql):
    assert ready
    scored = sql(
        "SELECT customer_id, chance, reasons, method, as_of FROM ml.churn ORDER BY chance DESC"
    )
    scored.head(20)
    return (scored,)


@app.cell
def spread(plt, scored):
    _figure, _axes = plt.subplots(figsize=(9, 3))
    _axes.hist(scored["chance"], bins=20)
    _axes.set_title(f"chances of {len(scored)} customers")
    _figure
    return


@app.cell
def measured_by_the_job(ready, sql):
    assert ready
    sql(
        """SELECT method, measure, value, cases FROM ml.churn_quality
           WHERE measured_at = (SELECT max(measured_at) FROM ml.churn_quality) ORDER BY measure, method"""
    )
    return


@app.cell
def the_test_again(HeadwaterError, mo, ready):
    # Learns from the earlier cases and scores the later ones, as the job does: each outcome is known.
    assert ready
    from app.models.model_tables import ModelTables
    from app.models.risks.churn import CHURN
    from app.models.risks.order_history import read_history
    from app.models.risks.risk_run import measured
    from spark_streaming.storage.lake import Lake
    from spark_streaming.storage.store_address import load_store

    try:
        _split, _risk, _ = measured(CHURN, read_history(ModelTables(Lake(load_store()))), 1, None)
    except HeadwaterError as _error:
        mo.stop(True, mo.callout(str(_error), kind="warn"))
    outcomes, chances = _split.test.outcomes, _risk.chances(_split.test.features)
    mo.md(
        f"{len(outcomes):,} cases, by {_risk.method}: {outcomes.mean():.0%} of them ordered nothing."
    )
    return chances, outcomes


@app.cell
def calibration(chances, np, outcomes, plt):
    # Ten groups of equal size, by chance: how many of each left.
    _groups = np.array_split(np.argsort(chances), 10)
    _figure, _axes = plt.subplots(figsize=(4, 4))
    _axes.plot([0, 1], [0, 1], linewidth=0.5)
    _axes.plot(
        [chances[g].mean() for g in _groups], [outcomes[g].mean() for g in _groups], marker="o"
    )
    _axes.set_xlabel("chance that was stated")
    _axes.set_ylabel("share that left")
    _axes.set_title("calibration")
    _figure
    return


@app.cell
def lift(chances, np, outcomes, plt):
    # How many more customers leave among those with the highest chances than among all.
    _ordered = outcomes[np.argsort(-chances)]
    _share = np.arange(1, len(_ordered) + 1) / len(_ordered)
    _lift = np.cumsum(_ordered) / np.arange(1, len(_ordered) + 1) / outcomes.mean()
    _figure, _axes = plt.subplots(figsize=(9, 3))
    _axes.plot(_share[len(_share) // 100 :], _lift[len(_share) // 100 :])
    _axes.axhline(1, linewidth=0.5)
    _axes.set_xlabel("share of customers, likeliest first")
    _axes.set_title("lift")
    _figure
    return


if __name__ == "__main__":
    app.run()
