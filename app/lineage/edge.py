"""An edge of the lineage leads from a column to a column that is made from it."""

from __future__ import annotations

from typing import NamedTuple

# Namespaces, in order from the source to the readers.
SOURCE, TOPIC, BRONZE, LAKE, JOB, SERVING, DATASET, CHART, DASHBOARD = NAMESPACES = (
    "source", "topic", "bronze", "lake", "job", "serving", "dataset", "chart", "dashboard",
)  # fmt: skip

# Kinds. `mask:hash`, `mask:partial` and `mask:redact` are copies that hide the value.
COPY = "copy"
DERIVED = "derived"
FILTER = "filter"  # decides which rows appear, their order or their groups; no value comes from it
UNKNOWN = "unknown"  # the target may contain any of its columns
READ = "read"
WRITTEN = "written"
SHOWN = "shown"
MASK = "mask:"


class Place(NamedTuple):
    """A column, or a whole object if `column` is empty.

    `name`: `schema.table` of a table in the source or the lake, `job.task` of a job.
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
    """`target` is made from `origin`.

    `made_by`: the view, job or metric that makes it; empty for the stream.
    `detail`: more information, such as the version that was read.
    """

    origin: Place
    target: Place
    kind: str
    made_by: str = ""
    detail: str = ""
