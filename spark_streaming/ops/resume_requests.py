"""Requests of an operator to resume a stopped table at once, as objects in the lake.

A request is an empty object, `requests/resume/<silver table>`. Anyone who may write to the lake can
make one, from any machine, and it survives a restart of the job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import quote, unquote

import pyarrow.fs as pa_fs

from spark_streaming.storage.lake import Lake

log = logging.getLogger(__name__)
FOLDER = "requests/resume"


def request_resume(lake: Lake, table: str) -> None:
    """Ask the job to resume silver table `table` in its next batch."""
    with lake.filesystem().open_output_stream(f"{FOLDER}/{quote(table, safe=' ')}") as stream:
        stream.write(b"")


def take_requests(lake: Lake, is_own: Callable[[str], bool] = lambda _: True) -> set[str]:
    """Take the silver tables requested since the last call; none if the store does not answer.

    Args:
        is_own: whether a silver table is this job's; the others' requests stay.
    """
    taken = set()
    try:
        files = lake.filesystem()
        selector = pa_fs.FileSelector(FOLDER, allow_not_found=True)
        for info in files.get_file_info(selector):
            if info.is_file and is_own(table := unquote(info.base_name)):
                files.delete_file(info.path)
                taken.add(table)
    except OSError as error:
        log.warning("requests to resume tables could not be read: %s", error)
    return taken
