"""Waits for silver between two comparisons of a table that differs.

A comparison decodes the events that silver has not merged by the table's present definition. Silver
decodes each event by the definition of its time, and fills a new column in older rows, only when it
reaches the event. After a restart or a schema change the two may differ for a moment, so a
difference counts only if it remains after silver has followed.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from app.compare.instant import SourceName, await_complete
from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.lake.patience import Waits
from spark_streaming.capture_choice import Choice
from spark_streaming.contract.contract import ContractError
from spark_streaming.contract.contract_store import CatalogUnreachableError, ContractStore
from spark_streaming.contract.evolution import changes_between
from spark_streaming.contract.lsn import Lsn
from spark_streaming.rules.contract_folder import ContractFolder

# A process that was killed runs again within this time.
CATCH_UP_S = 60.0
# Silver checks tables without events every 10 s.
FOLLOW_S = 30.0
POLL_S = 1.0


def await_followed(
    settings: Settings,
    lake: Lakehouse,
    names: Collection[SourceName],
    lsn: Lsn,
    waits: Waits,
    *,
    follow_s: float = FOLLOW_S,
) -> None:
    """Wait until silver is complete to `lsn` and follows the source's definition of these tables.

    If a table's policy holds a schema change back, the table does not follow, so this waits at most
    `follow_s`. If silver makes no progress, that is noted and the next comparison shows the state.
    """
    try:
        await_complete(settings, lake, lsn, waits, patience_s=CATCH_UP_S)
    except HeadwaterError as error:
        waits.note(f"compared with silver as it is: {error}")
        return
    files = ContractFolder(settings.contracts_folders)
    choice = Choice.of(settings.profile)
    store = ContractStore(lake.lake, settings.capture_dsn, files.texts_of, choice)
    limit = time.monotonic() + follow_s
    while behind := [name for name in names if not follows(store, name)]:
        tables = ", ".join(sorted(".".join(name) for name in behind))
        if time.monotonic() > limit:
            waits.note(f"silver does not follow the newest definition of {tables}")
            return
        waits.show(f"verify waits for silver to follow the newest definition of {tables}")
        time.sleep(POLL_S)


def follows(store: ContractStore, name: SourceName) -> bool:
    """Check whether silver's contract of a table agrees with the source's catalog.

    Also true if one of the two is missing or cannot be read: waiting would not help then.
    """
    try:
        in_silver, in_source = store.latest(*name), store.in_source(*name)
    except (CatalogUnreachableError, ContractError, OSError):
        return True
    return in_silver is None or in_source is None or not changes_between(in_silver, in_source)
