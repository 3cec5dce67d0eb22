import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Prices then and now")


@app.cell
def _():
    import marimo as mo

    from app.notebooks.lake_client import has_table, sql

    return has_table, mo, sql


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Prices then and now

    An order belongs to the list price that was valid when it was placed. Silver has only the present price; `history.movies`
    has every one, with the commit from which on it was valid. A point-in-time join takes the version whose interval has
    the order's time in it: from `_valid_from` on, and before `_valid_to`.
    """)
    return


@app.cell
def _(has_table, mo):
    mo.stop(
        not has_table("history.movies"),
        mo.callout(
            mo.md(
                'There is no `history.movies` yet. Write `history = "each"` into `public.movies.toml`'
                " in the folder `contracts` of the home, and wait some seconds."
            )
        ),
    )
    ready = True
    return (ready,)


@app.cell
def by_day(ready, sql):
    # The report: a row for each day.
    _asked = ready and "SELECT * FROM reports.prices_then ORDER BY day DESC LIMIT 30"
    sql(_asked)
    return


@app.cell
def lines(ready, sql):
    # The join itself, for the newest order lines.
    _asked = (
        ready
        and """
        SELECT o.placed_at, l.movie_id, l.unit_price AS paid, priced.price AS list_then, now.price AS list_now
        FROM silver.order_lines l
        JOIN silver.orders o ON o.order_id = l.order_id
        JOIN history.movies priced ON priced.movie_id = l.movie_id
         AND priced._valid_from <= o.placed_at
         AND (o.placed_at < priced._valid_to OR priced._valid_to IS NULL)
        LEFT JOIN silver.movies now ON now.movie_id = l.movie_id
        ORDER BY o.placed_at DESC LIMIT 20
        """
    )
    sql(_asked)
    return


@app.cell
def changes(ready, sql):
    # The movies whose price changed most often, each with its prices in order.
    _asked = (
        ready
        and """
        SELECT movie_id, count(*) AS versions, array_agg(price ORDER BY _valid_from_lsn, _lsn) AS prices
        FROM history.movies GROUP BY movie_id ORDER BY versions DESC, movie_id LIMIT 20
        """
    )
    sql(_asked)
    return


if __name__ == "__main__":
    app.run()
