"""A file on which the executors fail is held; what a long row becomes on its way out of them stays small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from ordertrail.engines.spark import stage as spark_stage
from ordertrail.engines.spark.workers import ParseTask
from ordertrail.rules.planning import Candidate
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import check_books, open_house
from tests.spark.engines import IN_EXECUTORS
from tests.spark.session import Spark

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]


@pytest.mark.slow
def test_a_file_on_which_executors_fail_is_held_and_all_others_load(
    tmp_path: Path, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies on one file made every pass fail, for every vendor."""

    class Poisoned(ParseTask):
        """Fails as no rule of ours does: outside the row kernel."""

        def _parse(self, candidates: tuple[Candidate, ...], data: pa.Buffer) -> Iterator[pa.RecordBatch]:
            if b"poison" in data.to_pybytes():
                raise RuntimeError("the worker had enough")
            yield from ParseTask._parse(self, candidates, data)

    monkeypatch.setattr(spark_stage, "ParseTask", Poisoned)
    house = open_house(tmp_path, engine=IN_EXECUTORS[0], spark=IN_EXECUTORS[1])
    for day in range(20, 23):
        house.drop(dated(day), csv_bytes([cells(f"K{day}", TIMES[0], address="poison" if day == 21 else "Main St 1")]))
    report = house.run()
    assert report.needs_person
    assert sorted(house.target()) == [("K20",), ("K22",)]
    held = house.delivery(dated(21))
    assert held["state"] == "held"
    assert "the engine fails on this file, even alone" in str(held["reason"])
    assert "had enough" in str(held["reason"])
    assert held["archived_to"] in house.archived()
    assert house.run().batch is None
    check_books(house)
