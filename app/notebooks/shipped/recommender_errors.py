import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="The recommender's errors")


@app.cell
def _():
    import marimo as mo
    import matplotlib.pyplot as plt

    from app.notebooks.lake_client import has_table, sql

    return has_table, mo, plt, sql


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # The recommender's errors

    `recommend` measures itself at each run, on a quarter of each customer's ratings that it did not see: how far its
    stars are off (RMSE, MAE), and how many of the movies that a customer chose its lists have (nDCG, recall). Beside it
    stands what a simpler method reaches.
    """)
    return


@app.cell
def _(has_table, mo):
    ready = has_table("ml.recommend_quality")
    mo.stop(
        not ready,
        mo.callout(
            mo.md(
                "The model has not run yet: `./headwater job run recommend --wait` needs `./headwater up --jobs`."
            )
        ),
    )
    return (ready,)


@app.cell
def latest_run(ready, sql):
    assert ready
    quality = sql(
        """SELECT part, method, measure, value, options FROM ml.recommend_quality
           WHERE measured_at = (SELECT max(measured_at) FROM ml.recommend_quality) ORDER BY part, measure, value"""
    )
    quality
    return (quality,)


@app.cell
def compared(plt, quality):
    _measures = [
        one
        for one in ("rmse", "mae", "ndcg_at_10", "recall_at_10")
        if one in set(quality["measure"])
    ]
    _figure, _all = plt.subplots(1, len(_measures), figsize=(3 * len(_measures), 3), squeeze=False)
    for _axes, _measure in zip(_all[0], _measures, strict=True):
        _of = quality[quality["measure"] == _measure]
        _axes.barh(_of["method"], _of["value"])
        _axes.set_title(_measure)
    _figure.tight_layout()
    _figure
    return


@app.cell
def over_time(plt, ready, sql):
    assert ready
    _runs = sql(
        """SELECT measured_at, value FROM ml.recommend_quality
           WHERE part = 'stars' AND method = 'als' AND measure = 'rmse' ORDER BY 1"""
    )
    _figure, _axes = plt.subplots(figsize=(9, 3))
    _axes.plot(_runs["measured_at"], _runs["value"], marker="o")
    _axes.set_title("RMSE of each run")
    _figure
    return


@app.cell
def stars_given_since(mo, ready, sql):
    # A list has no movie that its customer had rated. So every rating of a listed movie came later, and shows the error.
    assert ready
    given = sql(
        """SELECT r.stars, m.predicted_stars, m.predicted_stars - r.stars AS error, m.method
           FROM ml.recommended_movies m JOIN silver.ratings r
             ON r.customer_id = m.customer_id AND r.movie_id = m.movie_id
           WHERE m.predicted_stars IS NOT NULL AND r.stars IS NOT NULL"""
    )
    mo.stop(
        not len(given),
        mo.callout(
            mo.md(
                "No recommended movie has been rated since the lists were made: nothing to compare yet."
            )
        ),
    )
    mo.md(
        f"{len(given)} recommended movies were rated since: off by {given['error'].abs().astype(float).mean():.2f} stars "
        f"in the mean, {given['error'].astype(float).mean():+.2f} with their sign."
    )
    return (given,)


@app.cell
def errors_by_stars(given, plt):
    _figure, _axes = plt.subplots(figsize=(9, 3))
    _groups = [(stars, rows["error"].astype(float)) for stars, rows in given.groupby("stars")]
    _axes.boxplot([errors for _, errors in _groups])
    _axes.set_xticks(range(1, len(_groups) + 1), [str(stars) for stars, _ in _groups])
    _axes.axhline(0, linewidth=0.5)
    _axes.set_title("predicted less given stars, by the stars given")
    _figure
    return


@app.cell
def by_method(ready, sql):
    # How many customers get a list of their own, and how many the most popular movies.
    assert ready
    sql(
        """SELECT method, count(DISTINCT customer_id) AS customers, avg(predicted_stars) AS predicted_stars
           FROM ml.recommended_movies GROUP BY 1 ORDER BY 2 DESC"""
    )
    return


if __name__ == "__main__":
    app.run()
