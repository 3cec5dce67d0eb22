import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Silver by SQL")


@app.cell
def _():
    import marimo as mo
    import matplotlib.pyplot as plt

    from app.errors import HeadwaterError
    from app.notebooks.lake_client import has_table, sql, tables

    return HeadwaterError, has_table, mo, plt, sql, tables


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Silver by SQL

    Silver has one Delta table for each table of the source, with its rows of a moment ago. `sql(…)` asks Trino and
    returns a pandas DataFrame. Besides the source's columns each row has `_lsn`, `_committed_at` (the source's time) and
    `_merged_at`.
    """)
    return


@app.cell
def _(mo, tables):
    names = tables("silver")
    mo.stop(
        not names,
        mo.callout("Silver has no table yet: `./headwater status` shows the reason."),
    )
    asked = mo.cli_args().get("table")
    table = mo.ui.dropdown(names, value=asked if asked in names else names[0], label="Table")
    table
    return names, table


@app.cell
def counts(names, sql):
    # How many rows each table has, and when the newest of them was committed in the source.
    parts = [
        f"""SELECT '{name}' AS "table", count(*) AS rows, max(_committed_at) AS newest FROM silver."{name}" """
        for name in names
    ]
    sql(" UNION ALL ".join(parts) + " ORDER BY 2 DESC")
    return


@app.cell
def freshness(has_table, mo, sql):
    # Each table is complete up to this time: no change that the source committed earlier is missing.
    sql("SELECT * FROM ops.freshness") if has_table("ops.freshness") else mo.md(
        "`ops.freshness` does not exist yet."
    )
    return


@app.cell
def newest_rows(sql, table):
    sql(f'SELECT * FROM silver."{table.value}" ORDER BY _lsn DESC LIMIT 20')
    return


@app.cell
def changes(plt, sql, table):
    # The number of rows by the hour of their latest change, on the source's clock.
    _found = sql(
        f"""SELECT date_trunc('hour', _committed_at) AS hour, count(*) AS rows FROM silver."{table.value}"
            WHERE _committed_at IS NOT NULL GROUP BY 1 ORDER BY 1"""
    )
    _figure, _axes = plt.subplots(figsize=(9, 3))
    _axes.bar([f"{hour:%m-%d %H}h" for hour in _found["hour"]][-48:], _found["rows"][-48:])
    _axes.set_title(f"rows of {table.value} by the hour of their latest change")
    _axes.tick_params(axis="x", rotation=90)
    _figure
    return


@app.cell
def own_question(HeadwaterError, mo, sql):
    # A query of your own; an invalid one shows Trino's message.
    try:
        _answer = sql(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'silver' LIMIT 50"
        )
    except HeadwaterError as _error:
        _answer = mo.callout(str(_error), kind="warn")
    _answer
    return


if __name__ == "__main__":
    app.run()
