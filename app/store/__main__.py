"""`python -m app.store`: create, fill, work and edit the demo movie store.

It works on `HEADWATER_SOURCE_DSN`, or on the source of the current home's stack. Data goes to
stdout as one JSON value, progress and errors to stderr.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated, Optional

import typer
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.environment.toml_files import SettingsError
from app.errors import HeadwaterError
from app.store.edit import edit_movie
from app.store.movielens.movielens_load import REJECTS_MAX, as_dicts, load_movielens
from app.store.tables import store_connection as connection
from app.store.tables.create import create_store
from app.store.tables.grow import Growth
from app.store.tables.seed import Sizes, seed_store
from app.store.workload.drive import Report, Transaction, first_line
from app.store.workload.load_tables import BenchWorkload
from app.store.workload.rating_events import send_ratings
from app.store.workload.store_workload import Workload

PROGRESS_PAUSE_S = 5.0

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

Seed = Annotated[int, typer.Option(help="The seed of all random choices.")]
Rate = Annotated[float, typer.Option(help="Row changes a second; 0: as fast as possible.")]
# Optional, not `| None`: typer reads these at run time, on Python 3.10 too.
Seconds = Annotated[Optional[float], typer.Option(help="How long to run; by default until Ctrl-C.")]  # noqa: UP045


@app.command()
def create() -> None:
    """Create the store's tables if they are missing."""
    with _source() as engine:
        _print({"created": create_store(engine)})


@app.command()
def seed(
    seed: Seed = 1,
    scale: Annotated[float, typer.Option(help="1 makes 1,000 movies and 10,000 ratings.")] = 1.0,
) -> None:
    """Create the store if it is missing, and fill it if it is empty."""
    with _source() as engine:
        copied = seed_store(engine, seed=seed, sizes=Sizes.scaled(scale))
    if not copied:
        _log("the store was filled before; nothing to do")
    _print({"copied": copied})


@app.command()
def workload(
    seed: Seed = 1,
    rate: Rate = 50.0,
    seconds: Seconds = None,
    table: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Write only this table; may be given several times."),
    ] = None,
    mix: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="OPERATION=WEIGHT; may be given several times; others are left out."),
    ] = None,
) -> None:
    """Run business transactions at a set rate."""
    with _source() as engine:
        job = Workload(engine, seed, rate, tables=table, mix=_mix(mix))
        _print(job.run(seconds, _stop_on_signals(), watch=_watch()).as_dict())


@app.command()
def ratings(
    seed: Seed = 1,
    rate: Rate = 10.0,
    seconds: Seconds = None,
    to_kafka: Annotated[
        bool,
        typer.Option("--to-kafka", help="Send them as events of a stream, without the database."),
    ] = False,
) -> None:
    """Let customers rate movies in a steady stream; no other table changes."""
    if to_kafka:
        _print(send_ratings(seed, rate, seconds, _stop_on_signals()).as_dict())
        return
    with _source() as engine:
        job = Workload(engine, seed, rate, tables=["ratings"])
        _print(job.run(seconds, _stop_on_signals(), watch=_watch()).as_dict())


@app.command()
def bench(
    tables: Annotated[
        int, typer.Option(help="How many of the tables bench_1 … bench_64 to use.")
    ] = 8,
    rate: Rate = 50.0,
    rows: Annotated[int, typer.Option(help="Rows to fill each table up to.")] = 1_000,
    seconds: Seconds = None,
    seed: Seed = 1,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the tables at the end.")] = False,
) -> None:
    """Make single-row changes in simple tables at a set rate."""
    with _source() as engine:
        job = BenchWorkload(engine, tables, rate, rows=rows, seed=seed)
        job.create()
        report = job.run(seconds, _stop_on_signals(), watch=_watch())
        if drop:
            job.drop()
        _print(report.as_dict())


@app.command()
def grow(
    ratings: Annotated[int, typer.Option(help="How many ratings to add.")] = 100_000,
    seed: Seed = 1,
    truth: Annotated[
        Optional[Path], typer.Option(help="Write the planted patterns to this file as JSON.")  # noqa: UP045
    ] = None,
) -> None:
    """Add customers who rate and order over two years, by tastes and habits that a model can find."""
    with _source() as engine:
        growth = Growth(engine, ratings, seed, None)
        copied = growth.run(lambda rows: _log(f"{rows.get('ratings', 0):,} of {ratings:,} ratings"))
    if truth is not None:
        growth.write_truth(truth)
    _print({"copied": copied})


@app.command("load-movielens")
def load(
    folder: Annotated[Path, typer.Argument(help="Holds movies.csv, ratings.csv, tags.csv, …")],
    rejects: Annotated[Path, typer.Option(help="The file for malformed lines.")] = Path(
        "movielens.rejects.csv"
    ),
    max_rejects: Annotated[int, typer.Option(help="Stop at more malformed lines.")] = REJECTS_MAX,
) -> None:
    """Load the MovieLens CSV files; an interrupted load is started again with the same command."""
    with _source() as engine:
        reports = load_movielens(engine, folder, rejects=rejects, rejects_max=max_rejects)
    if any(report.rejected for report in reports):
        _log(f"skipped {sum(r.rejected for r in reports):,} lines, see {rejects}")
    _print(as_dicts(reports))


@app.command()
def edit(
    movie: Annotated[
        int | None, typer.Option(help="The movie to edit; by default the first one.")
    ] = None,
) -> None:
    """Give one movie a new tagline and print when it was committed."""
    with _source() as engine:
        _print(edit_movie(engine, movie_id=movie).as_dict())


@contextmanager
def _source() -> Iterator[Engine]:
    engine = connection.engine_for(connection.store_dsn())
    try:
        yield engine
    finally:
        engine.dispose()


def _mix(given: list[str] | None) -> dict[str, int] | None:
    if not given:
        return None
    weights = {}
    for entry in given:
        name, _, weight = entry.partition("=")
        if not weight.isdecimal():
            raise HeadwaterError(
                f"`{entry}` is not understood", hint="write OPERATION=WEIGHT: rate_movie=3"
            )
        weights[name] = int(weight)
    return weights


def _stop_on_signals() -> Event:
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _watch() -> Callable[[Transaction, Report], None]:
    started = shown = time.monotonic()

    def watch(_: Transaction, report: Report) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= PROGRESS_PAUSE_S:
            shown = now
            rate = report.changes / (now - started)
            _log(f"{report.transactions:,} transactions, {rate:,.1f} changes/s")

    return watch


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _log(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def explain(error: SQLAlchemyError) -> HeadwaterError:
    """Turn a database's error into one with a hint, without statement, values or DSN."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if state == "42P01":
        return HeadwaterError(
            "the store's tables do not exist", hint="fill it first: python -m app.store seed"
        )
    if isinstance(error, DBAPIError) and (state is None or state.startswith(("08", "28", "3D"))):
        return HeadwaterError(
            "cannot reach the source",
            detail=first_line(error),
            hint="see whether it runs (`./headwater status postgres`), or set HEADWATER_SOURCE_DSN",
        )
    return HeadwaterError("Postgres refused", detail=first_line(error))


def main() -> None:
    """Run the command line; a user's mistake ends in a few lines and exit code 1."""
    try:
        app(prog_name="python -m app.store")
    except (HeadwaterError, SettingsError) as error:
        _log(str(error))
    except SQLAlchemyError as error:
        _log(str(explain(error)))
    except KeyboardInterrupt:
        _log("stopped")
        sys.exit(130)
    else:
        return
    sys.exit(1)


if __name__ == "__main__":
    main()
