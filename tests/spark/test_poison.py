"""Files that executors hold: those on which they fail, those that are not what was said; long rows come out small."""

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


VENDORS = """
[[vendors]]
name = "default"
files = "*.csv"
[[vendors]]
name = "told"
files = "told/*.csv"
manifest = "{name}.done"
[[vendors]]
name = "many"
files = "many/*.csv"
expect_rows = [2, 3]
"""


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
    house = open_house(tmp_path, VENDORS, engine=IN_EXECUTORS[0], spark=IN_EXECUTORS[1])
    for name in ("told/right.csv", "told/wrong.csv", "told/alone.csv", "many/few.csv"):
        house.drop(name, csv_bytes([cells(name, TIMES[0])]))
    house.drop("told/right.csv.done", b"rows=1")
    house.drop("told/wrong.csv.done", b"rows=2")
    for day in range(20, 23):
        house.drop(dated(day), csv_bytes([cells(f"K{day}", TIMES[0], address="poison" if day == 21 else "Main St 1")]))
    report = house.run()
    assert report.needs_person
    assert sorted(house.target()) == [("K20",), ("K22",), ("told/right.csv",)]
    held = house.delivery(dated(21))
    assert held["state"] == "held"
    assert "the engine fails on this file, even alone" in str(held["reason"])
    assert "had enough" in str(held["reason"])
    assert held["archived_to"] in house.archived()
    wrong = {name: str(house.delivery(name)["reason"]) for name in ("wrong.csv", "few.csv")}
    assert "says 2 rows, the file has 1" in wrong["wrong.csv"]
    assert "it has 1 row, fewer than the 2 to 3" in wrong["few.csv"]
    again = house.run()
    assert (again.batch, [one.file_name for one in again.skipped]) == (None, ["told/alone.csv"])
    check_books(house)
