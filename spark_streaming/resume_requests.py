"""An operator's wish to go on with a stopped table at once, left in the lake for the job.

One empty object a table, `requests/resume/<silver table>`: whoever may write the lake may ask,
from any machine, and a request outlives the process that it is meant for.
"""

from __future__ import annotations

import logging
from urllib.parse import quote, unquote

import pyarrow.fs as pa_fs

from spark_streaming.lake import Lake

log = logging.getLogger(__name__)
FOLDER = "requests/resume"


def request_resume(lake: Lake, table: str) -> None:
    """Ask the job to go on with silver table `table` in its next batch."""
    with lake.filesystem().open_output_stream(f"{FOLDER}/{quote(table, safe=' ')}") as stream:
        stream.write(b"")


def take_requests(lake: Lake) -> set[str]:
    """The silver tables that were asked for since the last call; a store that does not answer
    is asked again later."""
    taken = set()
    try:
        files = lake.filesystem()
        selector = pa_fs.FileSelector(FOLDER, allow_not_found=True)
        for info in files.get_file_info(selector):
            if info.is_file:
                files.delete_file(info.path)
                taken.add(unquote(info.base_name))
    except OSError as error:
        log.warning("requests to resume tables could not be read: %s", error)
    return taken
