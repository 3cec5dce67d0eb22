"""The job of peer `dlt-…`: one load after the other.

Started by `batch_floor`, by the interpreter that has dlt.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dlt
from dlt.destinations import filesystem
from dlt.sources.sql_database import sql_database
from sqlalchemy import create_engine

CHUNK_ROWS = 50_000


def main(options: dict[str, Any]) -> None:
    engine = create_engine(options["source"])
    pipeline = dlt.pipeline(
        "peers",
        pipelines_dir=f"{options['folder']}/dlt",
        destination=filesystem(bucket_url=f"file://{options['folder']}/lake"),
        dataset_name="lake",
    )
    while True:
        tables = sql_database(
            engine,
            schema="public",
            table_names=options["tables"],
            backend="pyarrow",
            chunk_size=CHUNK_ROWS,
            reflection_level="full_with_precision",
        )
        for resource in tables.resources.values():
            if options["way"] == "replace":
                resource.apply_hints(write_disposition="replace", table_format="delta")
            else:
                resource.apply_hints(
                    write_disposition={"disposition": "merge", "strategy": "upsert"},
                    primary_key="id",
                    table_format="delta",
                    incremental=dlt.sources.incremental("updated_at"),
                )
        pipeline.run(tables)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
