"""Models on the demo store's planted tastes come near to the best possible result."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from app.errors import HeadwaterError
from app.models.interactions import Ids, rated, seen
from app.models.lists_model import ListsChoices, judge_lists
from app.models.model_tables import ModelTables
from app.models.recommend import Recommendations, quality_rows, recommend
from app.models.silver_ratings import read_bought, read_customers, read_offered, read_ratings
from app.models.stars_model import StarsChoices, judge_stars
from spark_streaming.storage.lake import Lake
from tests.support.planted import planted, rating_table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOBODY: tuple[Ids, Ids] = (np.empty(0, np.int64), np.empty(0, np.int64))
ONE_CHOICE = StarsChoices(ranks=(8,), regularisations=(0.03,))
ONE_LIST_CHOICE = ListsChoices(ranks=(8,), regularisations=(0.1,), alphas=(3.0,))
FAR = 2**40  # ids beyond 32 bits


def test_the_model_of_stars_goes_half_of_the_way_from_averages_to_the_planted_optimum(
    spark: SparkSession,
) -> None:
    store = planted(120_000)
    found = judge_stars(spark, rated(store.ratings), 1, ONE_CHOICE)
    assert len(found.test) == pytest.approx(30_000, rel=0.01)
    assert found.errors["global mean"] > found.errors["averages"]
    assert found.gap_closed(store.least_rmse) >= 0.5
    assert found.errors["als"][0] > store.least_rmse * 0.98


def test_lists_are_half_as_good_again_as_the_most_popular_movies(spark: SparkSession) -> None:
    found = judge_lists(spark, seen(planted(60_000).ratings, NOBODY), 1, ONE_LIST_CHOICE)
    als, popular = found.quality["als"], found.quality["most popular"]
    assert als[0] >= 1.5 * popular[0]
    assert als[1] > popular[1]


class SmallLake:
    """Silver's tables of a small store in a folder of the lake, and the recommendations from them."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake.below(f"models-{uuid.uuid4().hex[:8]}")
        store = planted(6_000, first_customer=FAR)
        ratings = store.ratings
        self.customers = [*np.unique(ratings.customers).tolist(), 5]  # the last one is new
        self.unoffered = int(np.bincount(ratings.movies).argmax())
        movies = np.unique(ratings.movies)
        self.put(
            "ratings",
            pa.table(
                {
                    "customer_id": ratings.customers,
                    "movie_id": ratings.movies,
                    "stars": ratings.stars,
                    "rated_at": pa.array([0] * len(ratings), pa.timestamp("us", "UTC")),
                }
            ),
        )
        self.put("customers", pa.table({"customer_id": pa.array(self.customers, pa.int64())}))
        self.put("movies", pa.table({"movie_id": movies, "available": movies != self.unoffered}))
        orders = [(1, FAR, "delivered"), (2, FAR, "cancelled")]
        order_ids, buyers, states = zip(*orders, strict=True)
        self.put(
            "orders", pa.table({"order_id": order_ids, "customer_id": buyers, "status": states})
        )
        mine = set(ratings.movies[ratings.customers == FAR].tolist())
        self.bought, self.cancelled = [int(one) for one in movies if int(one) not in mine][:2]
        self.put(
            "order_lines", pa.table({"order_id": [1, 2], "movie_id": [self.bought, self.cancelled]})
        )

    def put(self, table: str, rows: pa.Table) -> None:
        options = self.lake.storage_options()
        write_deltalake(
            self.lake.url(f"silver/{table}"), rows, mode="overwrite", storage_options=options
        )

    def recommend(self, spark: SparkSession, tables: ModelTables) -> Recommendations:
        return recommend(
            spark,
            read_ratings(tables),
            read_bought(tables),
            read_customers(tables),
            read_offered(tables),
            stars_choices=StarsChoices(ranks=(4,), regularisations=(0.9, 0.06)),
            lists_choices=ONE_LIST_CHOICE,
        )


def test_every_customer_gets_ten_new_movies_and_a_newcomer_the_most_popular(
    spark: SparkSession, lake: Lake
) -> None:
    small = SmallLake(lake)
    tables = ModelTables(small.lake)
    made = small.recommend(spark, tables)
    # Few ratings reveal little about tastes, so averages alone predict better.
    assert made.stars.options.regularisation == 0.9
    assert sorted(made.stars.tried) == [
        "rank 4, regularisation 0.06",
        "rank 4, regularisation 0.9",
    ]
    tables.replace("recommended_movies", made.movies)
    tables.replace("recommended_movies", made.movies)
    found = small.lake.table("ml/recommended_movies")
    rows = found.to_pyarrow_table().to_pylist()

    lists: dict[int, list[int]] = {}
    for row in sorted(rows, key=lambda each: each["rank"]):
        lists.setdefault(row["customer_id"], []).append(row["movie_id"])
    assert set(lists) == set(small.customers)
    assert all(len(set(each)) == 10 for each in lists.values())
    ratings = read_ratings(tables)
    known = set(zip(ratings.customers.tolist(), ratings.movies.tolist(), strict=True))
    known.add((FAR, small.bought))
    assert not known & {(one, movie) for one, each in lists.items() for movie in each}
    assert small.unoffered not in {row["movie_id"] for row in rows}
    assert {row["customer_id"] for row in rows if row["method"] == "most popular"} == {5}
    assert all(0.5 <= row["predicted_stars"] <= 5 for row in rows)

    buyers = made.customers.to_pylist()
    assert not known & {(row["customer_id"], row["movie_id"]) for row in buyers}
    assert max(row["rank"] for row in buyers) == 10

    last = found.history(1)[0]
    assert last["version"] == 1
    assert last["read.ratings"] == "0"
    tables.add("recommend_quality", quality_rows(made, 1, 0.45, datetime.now(timezone.utc)))
    quality = small.lake.table("ml/recommend_quality").to_pyarrow_table().to_pylist()
    assert {(row["part"], row["method"]) for row in quality} == {
        ("stars", "global mean"),
        ("stars", "averages"),
        ("stars", "als"),
        ("stars", "planted optimum"),
        ("lists", "als"),
        ("lists", "most popular"),
    }


def test_an_empty_table_is_an_error_and_a_good_list_stays(lake: Lake) -> None:
    small = SmallLake(lake)
    tables = ModelTables(small.lake)
    good = pa.table({"movie_id": [1, 2]})
    tables.replace("top_movies", good)
    with pytest.raises(HeadwaterError, match=r"has nothing for `ml\.top_movies`"):
        tables.replace("top_movies", good.slice(0, 0))
    assert small.lake.table("ml/top_movies").to_pyarrow_table() == good
    small.put("ratings", rating_table([]))
    with pytest.raises(HeadwaterError, match="there is no rating to learn from"):
        read_ratings(tables)
    with pytest.raises(HeadwaterError, match="silver has no table `none`"):
        tables.read("none", ["movie_id"])
