"""The order of test files: which come first, which stay together, and that they exist."""

from __future__ import annotations

from pathlib import Path

from tests.support.order import LONG, TEACHES, WITH, in_order, worker_scope

TESTS = Path(__file__).resolve().parents[2]


def ordered(*items: str, common: str = "e2e/common") -> list[str]:
    """Order items `file::test`; files whose names begin with `common` use the shared stack."""
    return in_order(list(items), lambda item: item.split("::")[0], lambda i: i.startswith(common))


def test_every_file_that_has_a_place_is_there() -> None:
    assert [
        name for name in (TEACHES, *LONG, *WITH, *WITH.values()) if not (TESTS / name).is_file()
    ] == []


def test_the_file_that_teaches_the_jvms_is_first_and_folders_stay_together() -> None:
    found = ordered(
        "spark/a::1", "spark/test_evolution.py::1", "spark/test_evolution.py::2",
        "integration/a::1", f"{TEACHES}::1", "integration/test_metrics.py::1", "spark/b::1",
    )  # fmt: skip
    assert found == [
        f"{TEACHES}::1", "spark/test_evolution.py::1", "spark/test_evolution.py::2", "spark/a::1",
        "spark/b::1", "integration/test_metrics.py::1", "integration/a::1",
    ]  # fmt: skip


def test_what_uses_the_common_stack_comes_last_and_the_long_ones_of_it_first() -> None:
    long = "e2e/test_verify.py"
    assert ordered("e2e/common_a::1", "e2e/b::1", "faults/c::1") == [
        "e2e/b::1", "faults/c::1", "e2e/common_a::1",
    ]  # fmt: skip
    assert ordered("e2e/a::1", "faults/b::1", f"{long}::1", common="e2e")[-2:] == [
        f"{long}::1", "e2e/a::1",
    ]  # fmt: skip


def test_files_that_need_superset_go_to_one_worker_and_others_by_themselves() -> None:
    names = ("e2e/test_superset.py", "e2e/test_superset_in_a_browser.py", "e2e/test_verify.py")
    for folder in ("tests/", "/anywhere/tests/"):
        one, other, third = (worker_scope(folder + name) for name in names)
        assert one == other == "tests/e2e/test_superset.py"
        assert third == "tests/e2e/test_verify.py"
