"""`headwater store`: fill the demo store, let it grow, and load MovieLens into it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

from app.cli.needs import require

app = typer.Typer(
    name="store",
    help="The demo store: rows, and patterns that models can learn.",
    no_args_is_help=True,
)


@app.command("seed")
def seed(
    seed: int = typer.Option(1, "--seed", help="The same seed makes the same rows."),
    scale: float = typer.Option(
        1.0, "--scale", help="With 1 there are 1,000 movies and 500 customers."
    ),
) -> None:
    """Fill an empty store; a filled one stays as it is.

    Examples:
      ./headwater store seed --scale 2
    """
    _run("seed", {"--seed": seed, "--scale": scale})


@app.command("grow")
def grow(
    ratings: int = typer.Option(100_000, "--ratings", min=1, help="How many ratings to add."),
    seed: int = typer.Option(1, "--seed", help="Another seed adds other rows."),
    truth: Path = typer.Option(None, "--truth", help="Write the planted patterns to this file."),
) -> None:
    """Add customers with ratings and two years of orders, in which tastes and habits can be found.

    The file of `--truth` holds facts that no model can see: the least error of any prediction of
    stars, each customer's rate of orders and chance to leave, each bill's chance to stay unpaid.

    Examples:
      ./headwater store grow --ratings 400000 --truth truth.json
    """
    _run("grow", {"--ratings": ratings, "--seed": seed, "--truth": truth})


@app.command("ratings")
def ratings(
    rate: float = typer.Option(10.0, "--rate", min=0, help="Ratings a second; 0: at full speed."),
    seconds: float = typer.Option(None, "--seconds", min=0, help="End after this time."),
    seed: int = typer.Option(1, "--seed", help="Where the choices come from."),
    to_kafka: bool = typer.Option(
        False, "--to-kafka", help="As events of a stream, without the database."
    ),
) -> None:
    """Let customers rate movies until Ctrl-C.

    Examples:
      ./headwater store ratings --rate 50 --seconds 60
      ./headwater store ratings --to-kafka
    """
    flags = ["--to-kafka"] if to_kafka else []
    _run("ratings", {"--rate": rate, "--seconds": seconds, "--seed": seed}, *flags)


@app.command("load-movielens")
def load_movielens(
    folder: Path = typer.Argument(help="It holds movies.csv, ratings.csv, tags.csv, links.csv."),
    rejects: Path = typer.Option(None, "--rejects", help="Where malformed lines go."),
) -> None:
    """Load the MovieLens files; after an interruption the same command continues.

    Examples:
      ./headwater store load-movielens ml-latest-small
    """
    _run("load-movielens", {"--rejects": rejects}, str(folder))


def _run(command: str, options: dict[str, object], *words: str) -> NoReturn:
    """Become `python -m app.store COMMAND` for the current home."""
    from app.environment.settings import ROOT

    require("kafka" if "--to-kafka" in words else "postgres")
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    arguments = [sys.executable, "-m", "app.store", command, *given, *words]
    sys.stdout.flush()
    os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": str(ROOT)})
