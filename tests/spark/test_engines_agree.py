"""P7: the same 300 files give the same tables on both engines, and when the engines take turns on one warehouse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ordertrail.look.status import Reader
from tests.harness import check_books, check_readers, without_fsync
from tests.spark.engines import EMBEDDED, IN_EXECUTORS, ON_DRIVER, check_same, feed, load, state
from tests.spark.session import Spark

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

FILES, BATCHES = 300, 3

_files = feed(FILES, seed=5)
_batches = [_files[number::BATCHES] for number in range(BATCHES)]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Counter[Any]]:
    with without_fsync():
        house = load(tmp_path_factory.mktemp("embedded"), _batches, lambda _: EMBEDDED)
    outcomes = {row["_outcome"] for row in house.rows("history")}
    assert outcomes == {"inserted", "updated", "unchanged", "stale", "superseded", "duplicate"}
    assert {row["state"] for row in house.rows("deliveries")} == {"loaded", "empty", "duplicate", "quarantined"}
    reasons = {str(row["reason"]) for row in house.rows("deliveries") if row["state"] == "quarantined"}
    assert any("has no column" in reason for reason in reasons), reasons
    assert any("rows are rejected, more than" in reason for reason in reasons), reasons
    return state(house)


def test_small_batches_on_the_driver(tmp_path: Path, spark: Spark, embedded: Mapping[str, Counter[Any]]) -> None:
    house = load(tmp_path, _batches, lambda _: ON_DRIVER)
    check_same(state(house), embedded)
    check_books(house)


@pytest.mark.slow
def test_the_engines_take_turns_on_one_warehouse(
    tmp_path: Path, spark: Spark, embedded: Mapping[str, Counter[Any]]
) -> None:
    """The first and the last batch are parsed and weighed by the executors; files of every kind are among theirs."""
    turns = (IN_EXECUTORS, EMBEDDED, IN_EXECUTORS)
    house = load(tmp_path, _batches, lambda number: turns[number])
    check_same(state(house), embedded)
    theirs = {row["state"] for row in house.rows("deliveries") if row["batch"] != 2}
    assert theirs == {"loaded", "empty", "duplicate", "quarantined"}
    check_books(house)
    check_readers(house)
    with Reader(house.config) as reader:
        assert reader.status().last_batch == BATCHES
