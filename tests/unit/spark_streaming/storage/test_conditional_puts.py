"""A writer proves that the store refuses a second put of the same name."""

from __future__ import annotations

import dataclasses

import pytest

from spark_streaming.storage.conditional_puts import (
    PROBE,
    OverwritingStore,
    prove_conditional_puts,
)
from spark_streaming.storage.lake import Lake
from tests.support.overwriting_store import overwriting_store

PLACE = f"/lake/{PROBE}"


@pytest.mark.parametrize("answers", [(412,), (409,), (200, 412), (200, 409)])
def test_a_store_that_refuses_is_asked_once_a_process_for_each_bucket(
    answers: tuple[int, ...],
) -> None:
    with overwriting_store(*answers) as server:
        for _ in range(3):
            prove_conditional_puts(server.store, "lake")
        assert server.puts == [PLACE] * len(answers)
        prove_conditional_puts(server.store, "other")
        assert server.puts[len(answers)] == f"/other/{PROBE}"


def test_a_store_that_accepts_the_second_put_is_refused_each_time() -> None:
    with overwriting_store() as server:
        for _ in range(2):
            with pytest.raises(OverwritingStore) as refused:
                Lake(server.store).for_writing()
        assert str(refused.value).startswith(
            f"the object store at {server.store.endpoint} overwrote"
        )
        assert "set gcs_credentials" in str(refused.value)


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_store_that_takes_no_put_is_no_proof_and_no_refusal(status: int) -> None:
    with overwriting_store(status) as server:
        with pytest.raises(OSError, match=f"HTTP {status}") as failed:
            prove_conditional_puts(server.store, "lake")
        assert not isinstance(failed.value, OverwritingStore)


def test_a_store_that_is_away_is_no_proof_and_no_refusal() -> None:
    with overwriting_store() as server:
        away = dataclasses.replace(server.store)
    with pytest.raises(OSError, match="does not answer") as failed:
        prove_conditional_puts(away, "lake")
    assert not isinstance(failed.value, OverwritingStore)
