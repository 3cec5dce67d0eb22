"""What a captured table means: by its contract file, else by the source's comments."""

from __future__ import annotations

from collections.abc import Mapping

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ColumnRules, Refinements
from spark_streaming.tables.meaning import ColumnMeaning, TableMeaning
from spark_streaming.tables.ownership import plain_description

_OWN_COLUMNS = {
    "_lsn": ColumnMeaning("Position of the row's last change in the source's log, in bytes."),
    "_committed_at": ColumnMeaning("When the source committed that change."),
    "_merged_at": ColumnMeaning("When silver merged that change."),
}
_SILENT = ColumnRules()


def declared_meaning(
    contract: Contract, content: Refinements | None, comments: Mapping[str, str]
) -> TableMeaning:
    """What a table and its columns mean.

    A column that the source dropped keeps its previous meaning, unless the file gives one.

    Args:
        content: the content of the table's contract file; None without a file.
        comments: the source's `COMMENT ON`, by the column's name in the source; "" is the table's.
    """
    content = content or Refinements()
    columns = dict(_OWN_COLUMNS)
    for column in contract.columns:
        rules = content.columns.get(column.name, _SILENT)
        if column.dropped and rules is _SILENT:
            continue
        comment = "" if column.dropped else comments.get(column.source_name, "")
        columns[column.name] = ColumnMeaning(
            rules.description or comment,
            rules.classification or "",
            mask=rules.mask or "",
            source=column.source_name if column.source_name != column.name else "",
        )
    return TableMeaning(
        content.description
        or comments.get("", "")
        or plain_description(contract.schema, contract.table),
        owner=content.owner,
        domain=content.domain,
        tags=tuple(content.tags),
        key=contract.key,
        contract_version=contract.version,
        columns=columns,
    )
