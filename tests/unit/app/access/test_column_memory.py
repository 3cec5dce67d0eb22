"""Which class a column has, over the life of its table."""

from __future__ import annotations

from pathlib import Path

from app.access.column_memory import ColumnMemory, strictest
from spark_streaming.contract.contract_files import Classification

TABLE = "silver.customers"


def test_a_column_without_a_class_is_internal_and_one_that_comes_later_beside_personal_ones_personal(
    tmp_path: Path,
) -> None:
    memory = ColumnMemory(tmp_path / "columns.json")
    first = memory.classes(TABLE, ["id", "email"], {"email": "personal"})
    assert first == {"id": "internal", "email": "personal"}
    later = memory.classes(TABLE, ["id", "email", "phone"], {"email": "personal"})
    assert later["phone"] == "personal"
    declared = {"email": "personal", "phone": "public"}
    assert memory.classes(TABLE, ["id", "email", "phone"], declared)["phone"] == "public"  # type: ignore[arg-type]


def test_a_new_column_beside_no_personal_one_is_internal(tmp_path: Path) -> None:
    memory = ColumnMemory(tmp_path / "columns.json")
    memory.classes("silver.movies", ["id"], {})
    assert memory.classes("silver.movies", ["id", "title"], {})["title"] == "internal"


def test_a_declaration_that_goes_away_and_a_column_that_goes_stay_known_over_a_restart(
    tmp_path: Path,
) -> None:
    memory = ColumnMemory(tmp_path / "columns.json")
    memory.classes(TABLE, ["id", "email"], {"email": "personal"})
    memory.save()
    again = ColumnMemory(tmp_path / "columns.json")
    # Renamed: the old name is in older versions, the new one is personal until it is classified.
    assert again.classes(TABLE, ["id", "contact"], {}) == {
        "id": "internal", "email": "personal", "contact": "personal",
    }  # fmt: skip


def test_a_copy_has_the_strictest_of_its_own_classes_and_those_of_its_table(
    tmp_path: Path,
) -> None:
    memory = ColumnMemory(tmp_path / "columns.json")
    memory.classes(TABLE, ["id", "email"], {"email": "sensitive"})
    for copy in ("silver.customers__v3", "silver.customers__at_0_16b3748"):
        found = memory.classes(copy, ["id", "email", "note"], {"email": "internal"})
        assert found == {"id": "internal", "email": "sensitive", "note": "personal"}


def test_the_strictest_of_no_class_is_internal() -> None:
    assert strictest([]) == "internal"
    assert strictest(["public", "sensitive", "personal"]) == "sensitive"
    assert strictest(["public"]) == "public"


def test_a_history_has_at_least_the_classes_of_its_table(tmp_path: Path) -> None:
    memory = ColumnMemory(tmp_path / "columns.json")
    memory.classes(TABLE, ["id", "email"], {"email": "sensitive"})
    columns = ["id", "email", "_valid_from", "_operation"]
    said: dict[str, Classification] = {"_valid_from": "internal", "email": "public"}
    found = memory.classes(TABLE.replace("silver", "history"), columns, said)
    assert found == {
        "id": "internal", "email": "sensitive", "_valid_from": "internal", "_operation": "personal",
    }  # fmt: skip
