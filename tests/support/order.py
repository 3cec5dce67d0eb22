"""The order of test files, for one process or for several workers with one queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Item = TypeVar("Item")

# If there are no AOT caches yet, this file's stack writes them, so that later stacks start faster
# (`app/launcher/aot.py`).
TEACHES = "integration/test_external_store.py"
# The long files of a folder come first, so that no worker ends alone with one.
LONG = (
    "spark/test_evolution.py",
    "integration/test_metrics.py",
    "integration/test_readers.py",
    "integration/test_trino.py",
    "integration/test_streams.py",
    "integration/test_bronze_sink.py",
    "e2e/test_type_matrix.py",
    # Tests of the shared stack that check everything in its source, and its start.
    "e2e/test_contracts.py",
    "e2e/test_main_job.py",
    "e2e/test_verify.py",
    "e2e/test_superset.py",
    "e2e/test_superset_in_a_browser.py",
    "e2e/test_page_in_a_browser.py",
    "faults/test_kills.py",
    "e2e/test_evolution.py",
    "e2e/test_stopped_table.py",
)
# It goes to the worker of the other file, whose stack has Superset, because Superset takes a minute to start.
WITH = {"e2e/test_superset_in_a_browser.py": "e2e/test_superset.py"}


def worker_scope(file: str) -> str:
    """The group of a test's file: tests with the same group must run in one worker.

    Args:
        file: the path at the beginning of a test's id, relative to any folder.
    """
    partner = next((other for name, other in WITH.items() if file.endswith(f"/{name}")), None)
    return f"tests/{partner or file.rpartition('tests/')[2]}"


def in_order(
    items: list[Item], file_of: Callable[[Item], str], uses_the_common_stack: Callable[[Item], bool]
) -> list[Item]:
    """Order the items; those of a file stay together and in their order.

    An idle stack takes half a core, so files without the shared one come before its start.
    The others stay with their folder, because a worker that came back to one would start its servers
    again, and Spark's clients do not forget an object store that has ended.

    Args:
        file_of: an item's file, in the form of LONG.
    """
    ranks = {name: rank for rank, name in enumerate(LONG)}
    folders: dict[str, int] = {}
    for item in items:
        folders.setdefault(file_of(item).split("/")[0], len(folders))

    def place(item: Item) -> tuple[bool, bool, int, int]:
        name = file_of(item)
        common = uses_the_common_stack(item)
        folder = 0 if common else folders[name.split("/")[0]]
        return (common, name != TEACHES, folder, ranks.get(name, len(LONG)))

    return sorted(items, key=place)
