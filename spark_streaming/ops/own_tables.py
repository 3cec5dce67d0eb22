"""Decides which silver tables belong to a job: those whose source tables are in its share."""

from __future__ import annotations

from collections.abc import Callable

from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.table_share import FIRST, TableShare
from spark_streaming.ops.requests import Answer, Desk, Request
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.silver_names import SilverNames

MIXED = "its tables belong to several silver jobs: name tables of one of them (`silver_jobs` of the profile)"


class OwnTables:
    """The silver tables of one job. A table whose source is unknown belongs to the first job."""

    def __init__(self, lake: Lake, share: TableShare, prefix: str) -> None:
        self._contracts = ContractStore(lake, "")
        self._names = SilverNames(lake)
        self._share = share
        self._prefix = prefix
        self._known: dict[str, int] = {}

    def has(self, table: str) -> bool:
        """Whether a silver table is the job's. Raises: OSError if the store does not answer."""
        return not self._share.further or self._job_of(table) == self._share.number

    def serve(self, desk: Desk, carry_out: Callable[[Request], Answer]) -> None:
        """Answer the requests for this job's tables. Raises: OSError if the store does not answer."""
        own = self._share.number
        for request in desk.pending():
            jobs = self.jobs_of(request)
            if jobs == {own}:
                desk.answer(request, carry_out(request))
            elif own == FIRST and len(jobs) > 1:
                desk.answer(request, Answer([], MIXED))

    def jobs_of(self, request: Request) -> set[int]:
        """Return the jobs that keep the named tables or entries; all jobs if none is named."""
        found = {self._job_of(table) for table in request.tables}
        found |= {self._share.job_of_topic(place.topic, self._prefix) for place in request.places}
        return found or set(range(FIRST, FIRST + len(self._share.further) + 1))

    def _job_of(self, table: str) -> int:
        if self._share.further and table not in self._known:
            sources = self._contracts.tables()
            self._known |= {self._names.of(*one): self._share.job_of(*one) for one in sources}
        return self._known.get(table, FIRST)
