"""Job files for tests of jobs, and the programs of their tasks."""

from __future__ import annotations

# Loads files into a table; then Spark reads it together with one of silver, and writes another.
FILES = """
[tasks.load]
kind = "load"
source = "${folder}"
format = "csv"
table = "files.visits"
contract = "visits.contract.toml"

[tasks.count]
kind = "spark"
file = "count.py"
depends_on = ["load"]
when = "load.rows_written > 0"
reads = ["files.visits", "silver.movies"]
writes = ["ml.visited"]
timeout = "10min"

[parameters]
folder = "/none"
"""
CONTRACT = """
[columns.movie_id]
type = "int64"
not_null = true
"""
COUNT = """
from pyspark.sql import SparkSession
from app.jobs.report import report
spark = SparkSession.builder.getOrCreate()
visits = spark.table("files.visits").join(spark.table("silver.movies"), "movie_id")
counts = visits.groupBy("movie_id", "title").count()
place = spark.sql("DESCRIBE DETAIL files.visits").first().location.replace("files/visits", "ml/visited")
counts.write.format("delta").mode("overwrite").save(place)
report(rows_written=counts.count())
"""
# A notebook that queries Trino and reports; for fewer than 0 rows one of its cells fails.
NOTEBOOKS = """
[parameters]
rows = 3

[tasks.look]
kind = "notebook"
file = "look.ipynb"
arguments = ["--rows=${rows}"]
timeout = "10min"

[tasks.after]
kind = "sql"
statement = "SELECT 1"
depends_on = ["look"]
when = "look.rows > 2"
"""
LOOK = """
import marimo as mo
from app.jobs.report import report
from app.notebooks.lake_client import sql
asked = mo.cli_args().get("rows")
found = sql(f"SELECT * FROM (VALUES 1, 2, 3) AS t (number) LIMIT {asked}")
report(rows=len(found))
found
"""
# The shipped notebooks that read the tables of models.
OF_MODELS = """
[tasks.recommender]
kind = "notebook"
file = "recommender_errors.py"
timeout = "15min"

[tasks.churn]
kind = "notebook"
file = "churn_chances.py"
depends_on = ["recommender"]
timeout = "15min"
"""
# The page of a notebook whose model has not run. (The page also has the notebook's source, with a backtick.)
NOT_RUN = "The model has not run yet: <code>"
