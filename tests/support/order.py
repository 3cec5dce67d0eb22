"""In which order test files are taken: by one process, or by several workers from one queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Item = TypeVar("Item")

# Where the JVMs have learned nothing yet, this one's stack teaches them: what starts after its end
# starts quicker (`app/launcher/aot.py`).
TEACHES = "integration/test_external_store.py"
# Of a folder the long ones come first, so that no worker ends alone with one.
LONG = (
    "spark/test_evolution.py",
    "integration/test_metrics.py",
    "integration/test_readers.py",
    "integration/test_trino.py",
    "integration/test_streams.py",
    "integration/test_bronze_sink.py",
    "e2e/test_type_matrix.py",
    # Of the common stack's these look at all that is in its source, and at how it has started.
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
# Goes to the worker of the other file, whose stack has Superset: its start takes a minute.
WITH = {"e2e/test_superset_in_a_browser.py": "e2e/test_superset.py"}


def worker_scope(file: str) -> str:
    """What of a test's file has to be the same for two tests that must run in one worker.

    Args:
        file: the path that begins a test's id, from whatever folder.
    """
    partner = next((other for name, other in WITH.items() if file.endswith(f"/{name}")), None)
    return f"tests/{partner or file.rpartition('tests/')[2]}"


def in_order(
    items: list[Item], file_of: Callable[[Item], str], uses_the_common_stack: Callable[[Item], bool]
) -> list[Item]:
    """The items, those of a file together and in their order.

    An idle stack takes half a core: whatever runs without the common one comes before it starts.
    The others stay with their folder: a worker that came back to one would start its servers
    again, and Spark's clients do not forget an object store that is gone.

    Args:
        file_of: an item's file, as LONG names it.
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
