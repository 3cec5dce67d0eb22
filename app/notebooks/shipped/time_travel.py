import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Time travel")


@app.cell
def _():
    import marimo as mo
    import pandas as pd

    from app.errors import HeadwaterError
    from app.notebooks.lake_client import delta, sql, tables

    return HeadwaterError, delta, mo, pd, sql, tables


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Time travel

    Each batch that changes a table of silver is a version of it. An older version can be read as long as its files are
    kept: all of them for 15 minutes (`silver_retention_minutes` of the profile), then the last of each hour for a day and
    of each day for a week. `ops.versions` lists those. Change a row of the source meanwhile (`./headwater urls` has
    the page), and run the cells again.
    """)
    return


@app.cell
def _(mo, tables):
    _names = tables("silver")
    mo.stop(
        not _names,
        mo.callout("Silver has no table yet: `./headwater status` shows the reason."),
    )
    _asked = mo.cli_args().get("table")
    _first = next((name for name in (_asked, "ratings", "orders") if name in _names), _names[0])
    table = mo.ui.dropdown(_names, value=_first, label="Table")
    table
    return (table,)


@app.cell
def versions(delta, pd, table):
    # The newest versions, from the table's own log.
    history = pd.DataFrame(delta(f"silver.{table.value}").history(20))
    history["timestamp"] = pd.to_datetime(history["timestamp"], unit="ms", utc=True)
    history[[column for column in ("version", "timestamp", "operation") if column in history]]
    return (history,)


@app.cell
def _(history, mo):
    newest = int(history["version"].max())
    # Only a few versions back: the files of older versions may be deleted.
    older = mo.ui.slider(
        int(history["version"].min()),
        newest,
        value=max(newest - 3, int(history["version"].min())),
        label="Version",
    )
    older
    return newest, older


@app.cell
def kept(mo, sql, table):
    # Older versions that can still be read, whose numbers can be asked for like those above.
    _found = sql(
        f"SELECT version, committed_at FROM ops.versions WHERE table_schema = 'silver' AND table_name = '{table.value}' ORDER BY version DESC"
    )
    _found if len(_found) else mo.md("No older version is kept yet: the first comes after minutes.")
    return


@app.cell
def as_of(HeadwaterError, mo, newest, older, pd, sql, table):
    # Run the same query on the current table and on an earlier version.
    _now = f'silver."{table.value}"'
    try:
        _answer = pd.concat(
            [
                sql(
                    f"SELECT {version} AS version, count(*) AS rows, max(_lsn) AS newest_lsn FROM {_now} FOR VERSION AS OF {version}"
                )
                for version in sorted({older.value, newest})
            ]
        )
    except HeadwaterError as _error:
        _answer = mo.callout(
            f"Version {older.value} is not readable any more.\n\n{_error}", kind="warn"
        )
    _answer
    return


@app.cell
def changed_since(HeadwaterError, mo, newest, older, sql, table):
    # Rows that were written after that version: their position in the source's log is after the version's last one.
    _now = f'silver."{table.value}"'
    try:
        _rows = sql(
            f"SELECT * FROM {_now} WHERE _lsn > (SELECT max(_lsn) FROM {_now} FOR VERSION AS OF {older.value}) ORDER BY _lsn DESC LIMIT 20"
        )
        _answer = (
            _rows
            if len(_rows)
            else mo.md(f"Nothing was written between version {older.value} and {newest}.")
        )
    except HeadwaterError as _error:
        _answer = mo.callout(str(_error), kind="warn")
    _answer
    return


@app.cell
def without_trino(HeadwaterError, delta, mo, older, table):
    # The same with delta-rs and without Trino: an Arrow table of that version.
    try:
        _answer = (
            delta(f"silver.{table.value}", older.value).to_pyarrow_dataset().head(5).to_pandas()
        )
    except HeadwaterError as _error:
        _answer = mo.callout(str(_error), kind="warn")
    except OSError as _error:
        _answer = mo.callout(f"The files of version {older.value} are gone: {_error}", kind="warn")
    _answer
    return


if __name__ == "__main__":
    app.run()
