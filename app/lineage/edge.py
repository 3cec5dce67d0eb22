"""What an edge of the lineage is: from a column to one that is made of it."""

from __future__ import annotations

from typing import NamedTuple

# Namespaces, in the order of the way from the source to who reads.
SOURCE, TOPIC, BRONZE, LAKE, JOB, SERVING, DATASET, CHART, DASHBOARD = NAMESPACES = (
    "source", "topic", "bronze", "lake", "job", "serving", "dataset", "chart", "dashboard",
)  # fmt: skip

# Kinds. `mask:hash`, `mask:partial` and `mask:redact` are copies that hide the value.
COPY = "copy"
DERIVED = "derived"
FILTER = "filter"  # decides which rows there are, or their order and groups; no value comes from it
UNKNOWN = "unknown"  # something of it may be in there; which columns is not known
READ = "read"
WRITTEN = "written"
SHOWN = "shown"
MASK = "mask:"


class Place(NamedTuple):
    """A column, or a whole object where `column` is empty.

    `name`: of a table in the source and the lake `schema.table`, of a job `job.task`.
    """

    namespace: str
    name: str
    column: str = ""

    @property
    def whole(self) -> Place:
        """The object that the column belongs to."""
        return Place(self.namespace, self.name)

    def __str__(self) -> str:
        text = f"{self.name}.{self.column}" if self.column else self.name
        return text if self.namespace == LAKE else f"{self.namespace}:{text}"


class Edge(NamedTuple):
    """`target` is made of `origin`.

    `made_by`: the view, job or metric that does it; empty where the stream does.
    `detail`: what else is known, such as the version that was read.
    """

    origin: Place
    target: Place
    kind: str
    made_by: str = ""
    detail: str = ""
