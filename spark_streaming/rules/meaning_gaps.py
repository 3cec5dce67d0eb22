"""Finds gaps of a contract: columns without description or class, names that look personal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ColumnRules, ContractFile, Problem
from spark_streaming.rules.declared_meaning import declared_meaning

# Words of a column's name, between `_` or capitals.
_PERSONAL = re.compile(
    r"(^|_)(e_?mail|phone|telephone|mobile|fax|(first|last|full|given|family|middle|maiden|sur)_?name"
    r"|birth(day|date)?|born|dob|ssn|passport|iban|bic|address|street|postal_?code|post_?code|zip"
    r"|ip|ip_?address|lat(itude)?|lon(gitude)?|gender|nationality|ethnicity|religion|salary"
    r"|(tax|national|social_security)_(id|number)|card_?(number|holder)|password|diagnosis)(_|$)"
)
_NAMED_MAX = 8


def looks_personal(name: str) -> bool:
    """Whether a column's name suggests personal data."""
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return _PERSONAL.search(re.sub(r"[^a-z0-9]+", "_", plain)) is not None


def gaps_of_file(
    file: ContractFile, contract: Contract | None, comments: Mapping[str, str]
) -> list[Problem]:
    """The gaps of a file that has no mistakes.

    Args:
        contract: the table as the source has it; None if only the file's own columns are known.
        comments: the source's, as `declared_meaning` takes them.
    """
    columns = file.content.columns
    said: dict[str, tuple[str, str]]
    if contract is None:
        said = {n: (rules.description, rules.classification or "") for n, rules in columns.items()}
    else:
        meaning = declared_meaning(contract, file.content, comments)
        said = {
            c.name: (meaning.columns[c.name].description, meaning.columns[c.name].classification)
            for c in contract.columns
            if c.name in meaning.columns
        }
    found = []
    for what, key, lacking in (
        ("description", "description", [name for name, (text, _) in said.items() if not text]),
        ("class", "classification", [name for name, (_, kind) in said.items() if not kind]),
    ):
        if lacking:
            message = f"{len(lacking)} column(s) without {what}: {_listed(lacking)}"
            found.append(Problem(file.path, 1, message, f"`{key}` below [columns.{lacking[0]}]"))
    for name in said:
        rules = columns.get(name, ColumnRules())
        if looks_personal(name) and rules.classification is None:
            hint = f'[columns.{name}] classification = "personal", or another class if it is not'
            message = f"column `{name}` looks personal and is not classified"
            found.append(file.problem(("columns", name), message, hint))
    return found


def gaps_without_file(contract: Contract, path: Path) -> list[Problem]:
    """The columns that look personal, of a table that has no file.

    Args:
        path: the file that the table would have.
    """
    names = [column.name for column in contract.columns if looks_personal(column.name)]
    if not names:
        return []
    message = f"there is no such file, and column(s) {_listed(names)} look personal"
    hint = f"`headwater contract init {contract.schema}.{contract.table}` writes one; classify them"
    return [Problem(path, 1, message, hint)]


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    more = len(all_names) - _NAMED_MAX
    return ", ".join(all_names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
