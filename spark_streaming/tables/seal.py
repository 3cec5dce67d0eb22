"""Seals tables when a driver takes over, so that commits begun by an earlier driver are refused.

A seal is a commit that changes the table's metadata. Both engines refuse any transaction if such a
commit came after the version that it read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pyarrow.fs as pa_fs
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from spark_streaming.contract.names import is_stream
from spark_streaming.storage.lake import Lake

log = logging.getLogger(__name__)
EPOCH = "headwater.silver_epoch"
THREADS = 8
# How often a seal is tried if commits of an earlier driver come first.
TRIES_MAX = 20


def seal_tables(
    lake: Lake,
    epoch: int,
    others: Iterable[str],
    is_own: Callable[[str], bool] = lambda _: True,
    job: int = 1,
) -> int:
    """Seal silver's tables and `others` (paths). Returns: how many there are.

    Args:
        is_own: whether a silver table is the job's.
        job: the job's number; if there are several, each seals `others` with its own epoch.
    """
    selector = pa_fs.FileSelector("silver", allow_not_found=True)
    folders = [
        info
        for info in lake.filesystem().get_file_info(selector)
        if info.type == pa_fs.FileType.Directory
    ]
    own = [info.base_name for info in folders if is_own(info.base_name)]
    paths = [*others, *map(lake.silver_path, own)]
    mark = EPOCH if job == 1 else f"{EPOCH}_{job}"
    with ThreadPoolExecutor(THREADS) as pool:
        sealed = sum(pool.map(lambda path: seal(lake, path, epoch, mark), paths))
    log.info("sealed %d tables against earlier drivers (epoch %d)", sealed, epoch)
    return sealed


def seal(lake: Lake, path: str, epoch: int, mark: str = EPOCH) -> bool:
    """Seal one table. Returns: False if there is none or it is a stream's."""
    for tries in range(1, TRIES_MAX + 1):
        try:
            table = lake.table(path)
        except TableNotFoundError:
            return False
        found = table.metadata()
        if is_stream(path.rpartition("/")[2], found.description, found.configuration):
            return False
        if int(found.configuration.get(mark, "0")) >= epoch:
            return True
        try:
            table.alter.set_table_properties({mark: str(epoch)}, raise_if_not_exists=False)
            return True
        except CommitFailedError:
            if tries == TRIES_MAX:
                raise
    return False
