"""`access.toml`: each mistake with its line and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.access.roles import read_roles
from spark_streaming.contract.contract_files import ContractFileError


def test_the_shipped_roles_are_there_without_a_file(tmp_path: Path) -> None:
    roles = read_roles(tmp_path / "access.toml").roles
    assert list(roles) == ["engineer", "analyst", "auditor"]
    assert roles["engineer"].sees_all
    analyst = roles["analyst"]
    assert [analyst.treatment(kind) for kind in ("internal", "personal", "sensitive")] == [
        "show", "mask", "hide",
    ]  # fmt: skip


def test_a_file_adds_roles_and_replaces_shipped_ones_whole(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    file.write_text(
        '[roles.support]\nschemas = ["silver"]\npersonal = "show"\n'
        '[roles.analyst]\nschemas = ["reports"]\n'
    )
    roles = read_roles(file).roles
    assert roles["support"].personal == "show"
    # What a role does not say is the strict way.
    assert (roles["analyst"].personal, roles["analyst"].writes) == ("hide", "nothing")


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ('[roles.a]\nschemas = ["silver"]\npersonel = "mask"', 3, "unknown key `roles.a.personel`", "`personal`"),
        ('[roles.a]\nschemas = ["silver"]\n\npersonal = "blur"', 4, "cannot be 'blur'", "'mask'"),
        ('[roles.a]\npersonal = "mask"', 1, "`roles.a.schemas` is missing", "docs/governance.md"),
        ('[rules.a]\n', 1, "unknown key `rules`", "`roles`"),
        ('[roles."a|b"]\nschemas = ["silver"]', 1, "cannot be a role's name", "lower-case"),
        ('[roles.a]\nschemas = ["silver"]\nwrites = "anywhere"', 1, "goes with", ""),
        ('[roles.a]\nschemas = ["silver"]\n[[roles.a.filters]]\ntable = "orders"\nwhere = "1 = 1"', 4, "roles.a.filters.0.table", ""),
        ("roles = [", 1, "not TOML", ""),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, message: str, hint: str
) -> None:
    file = tmp_path / "access.toml"
    file.write_text(text)
    with pytest.raises(ContractFileError) as caught:
        read_roles(file)
    [problem] = caught.value.problems
    assert problem.line == line
    assert message in problem.message
    assert hint in problem.hint
