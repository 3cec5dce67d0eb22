"""Notes in each silver table, permanently, which source table it belongs to.

The first source table keeps the name. Another one with a coinciding name (`Orders` beside `orders`)
is refused, whichever of the two has an event first after a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.contract import quoted
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.names import silver_table, stream_mark
from spark_streaming.storage.lake import Lake

Source = tuple[str, str]


def mark(schema: str, table: str) -> str:
    """The description of the silver table of a source table."""
    return f"rows of source table {quoted(schema)}.{quoted(table)}"


def is_mark(description: str | None) -> bool:
    """Whether a Delta table's description names a source table."""
    return bool(description and description.startswith("rows of source table "))


def set_mark(table: DeltaTable, wanted: str) -> None:
    """Describe a table in a commit of its own, if an earlier release left out the description."""
    if not table.metadata().description:
        table.alter.set_table_description(wanted)


class Owners:
    """Knows which source table has which silver table. Safe for use by several threads.

    Args:
        names: gives a source table's silver name.
    """

    def __init__(
        self,
        lake: Lake,
        contracts: ContractStore,
        names: Callable[[str, str], str] = silver_table,
    ) -> None:
        self._names = names
        self._lake = lake
        self._contracts = contracts
        self._known: dict[str, Source] = {}
        self._lock = threading.Lock()

    def refusal(self, schema: str, table: str) -> str | None:
        """Claim its silver table for a source table. Returns: why it cannot have it; None if it can.

        Raises: OSError, DeltaError where the store does not answer.
        """
        source, name = (schema, table), self._names(schema, table)
        with self._lock:
            owner = self._known.get(name) or self._noted(name, source)
            if isinstance(owner, str):
                return owner
            self._known.setdefault(name, owner)
        if owner == source:
            return None
        return _shared(source, name, f"source table {'.'.join(owner)}")

    def _noted(self, name: str, source: Source) -> Source | str:
        """The owner by the lake; `source` where the lake names none; else the refusal as text."""
        try:
            found = self._lake.table(self._lake.silver_path(name)).metadata().description
        except TableNotFoundError:
            return source
        if found == stream_mark(name):
            return _shared(source, name, "a stream", "rename the stream's file")
        kept = [one for one in self._contracts.tables() if self._names(*one) == name]
        if is_mark(found):
            if found == mark(*source):
                return source
            owner = next((one for one in kept if mark(*one) == found), None)
            return owner or _shared(source, name, f"the {str(found).removeprefix('rows of ')}")
        # Made by an earlier release: of tables that it kept, the one that the source made first.
        return min(kept, key=self._age) if kept else source

    def _age(self, source: Source) -> tuple[int, Source]:
        contract = self._contracts.latest(*source)
        return (contract.oid or 0 if contract else 0), source


def _shared(
    source: Source, name: str, owner: str, hint: str = "rename one of the two in the source"
) -> str:
    return (
        f"table {'.'.join(source)} would share the silver table `{name}` with {owner}, which has it"
        f"\n  hint: {hint}"
    )
