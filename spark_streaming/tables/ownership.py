"""Notes in each silver table, permanently, which source table it belongs to.

The first source table keeps the name. Another table that would get the same name (`Orders` beside
`orders`) is refused, even if it is the first of the two to have an event after a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from deltalake import DeltaTable, Metadata
from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.contract import quoted
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.names import is_stream, silver_table
from spark_streaming.storage.lake import Lake

Source = tuple[str, str]
# The property of a silver table that names its source table, quoted.
SOURCE = "headwater.source"
_DESCRIBED = "rows of source table "


def mark(schema: str, table: str) -> str:
    """The value of a silver table's property SOURCE."""
    return f"{quoted(schema)}.{quoted(table)}"


def plain_description(schema: str, table: str) -> str:
    """The description of a silver table that neither a contract file nor the source describes."""
    return f"{_DESCRIBED}{mark(schema, table)}"


def noted_source(found: Metadata) -> str | None:
    """The mark of the source table that a silver table belongs to; None if it names none.

    Tables of an earlier release name it in the description.
    """
    if found.configuration.get(SOURCE):
        return str(found.configuration[SOURCE])
    described = found.description or ""
    return described.removeprefix(_DESCRIBED) if described.startswith(_DESCRIBED) else None


def set_source(table: DeltaTable, wanted: str) -> None:
    """Give a table of an earlier release its property, in a commit of its own."""
    if SOURCE not in table.metadata().configuration:
        noted = noted_source(table.metadata()) or wanted
        table.alter.set_table_properties({SOURCE: noted}, raise_if_not_exists=False)


@dataclass(frozen=True)
class Claim:
    """The result of a claim.

    Args:
        refusal: why the source table cannot have its silver table; None if it has it.
        opened: the silver table if the claim opened it. Opening takes long, so callers use this one.
    """

    refusal: str | None
    opened: DeltaTable | None = None


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

    def claim(self, schema: str, table: str) -> Claim:
        """Claim the silver table of a source table.

        Raises: OSError, DeltaError if the store does not answer.
        """
        source, name = (schema, table), self._names(schema, table)
        with self._lock:
            known = self._known.get(name)
        # Read without the lock: a new process claims all its tables at once.
        noted, opened = (known, None) if known else self._noted(name, source)
        if isinstance(noted, str):
            return Claim(noted)
        with self._lock:
            owner = self._known.setdefault(name, noted)
        if owner == source:
            return Claim(None, opened)
        return Claim(_shared(source, name, f"source table {'.'.join(owner)}"))

    def _noted(self, name: str, source: Source) -> tuple[Source | str, DeltaTable | None]:
        """Find the owner of a silver table in the lake.

        Returns: the owner (`source` if the lake names none), or a refusal as text; and the table if it exists.
        """
        try:
            opened = self._lake.table(self._lake.silver_path(name))
        except TableNotFoundError:
            return source, None
        return self._owner(name, source, opened.metadata()), opened

    def _owner(self, name: str, source: Source, found: Metadata) -> Source | str:
        if is_stream(name, found.description, found.configuration):
            return _shared(source, name, "a stream", "rename the stream's file")
        noted = noted_source(found)
        if noted == mark(*source):
            return source
        kept = [one for one in self._contracts.tables() if self._names(*one) == name]
        if noted is not None:
            owner = next((one for one in kept if mark(*one) == noted), None)
            return owner or _shared(source, name, f"the source table {noted}")
        # An earlier release made the table: of the source tables that it kept, the oldest owns it.
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
