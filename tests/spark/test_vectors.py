"""Deletion vectors of Spark read by us, ours by Spark, and one on top of the other in one file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from ordertrail.delta.actions import Txn
from ordertrail.delta.table import Change, Table
from ordertrail.delta.vectors import deleted_rows, vector_file, write_vectors
from tests.spark.golden import FOLDER, expand, live_rows, make
from tests.spark.session import Spark, at_path

pytestmark = pytest.mark.spark

ROWS = 200_000


def test_spark_still_writes_what_the_golden_files_hold(tmp_path: Path, spark: Spark) -> None:
    """The committed expectation is what Spark says today; each version's vector is read by us as Spark reads it."""
    expected = make(spark, tmp_path)
    assert expected == json.loads(FOLDER.with_suffix(".json").read_text())["deleted"]
    for version, rows in enumerate(expected, start=2):
        (file,) = Table(tmp_path, ()).snapshot(version).files.values()
        assert deleted_rows(tmp_path, file).tolist() == expand(rows)


def mark(root: Path, rows: list[int]) -> None:
    """Mark further rows of the table's one file, in one commit of ours."""
    table = Table(root, ())
    before = table.snapshot()
    (file,) = before.files.values()
    marked = np.union1d(deleted_rows(root, file), np.array(rows))
    (descriptor,) = write_vectors(root, [marked])
    change = Change(
        Txn("test", before.version, time.time_ns() // 1_000_000), "DELETE", [file.marked(descriptor, ROWS)], [file]
    )
    table.commit(before, change)


@pytest.mark.slow
def test_vectors_one_on_top_of_the_other(tmp_path: Path, spark: Spark) -> None:
    """Three of ours in one file, then a DELETE by Spark, then ours again: after each, both read the same rows."""
    name = at_path(tmp_path)
    spark.run(f"CREATE TABLE {name} (id BIGINT) USING delta TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
    spark.run(f"INSERT INTO {name} SELECT id FROM range(0, {ROWS}, 1, 1)")
    steps: list[list[int] | str] = [
        [0, 65_535, 65_536, ROWS - 1],
        list(range(60_000, 140_000)),
        list(range(0, 60_000, 2)),
        "id % 7 = 3 AND id < 190000",
        [1, *range(150_000, 190_000)],
        "id BETWEEN 189990 AND 190010",
    ]
    gone: set[int] = set()
    for step in steps:
        if isinstance(step, str):
            spark.run(f"DELETE FROM {name} WHERE {step}")
            gone |= {i for i in range(ROWS) if (i % 7 == 3 and i < 190_000 if "%" in step else 189_990 <= i <= 190_010)}
        else:
            mark(tmp_path, step)
            gone |= set(step)
        (file,) = Table(tmp_path, ()).snapshot().files.values()
        assert deleted_rows(tmp_path, file).tolist() == sorted(gone)
        path = vector_file(tmp_path, json.loads(str(file.deletion_vector)))
        assert path is not None
        assert (path.parent == tmp_path) == isinstance(step, str)
        assert live_rows(spark, name) == sorted(set(range(ROWS)) - gone)
    assert [row["id"] for row in spark.select(f"SELECT id FROM {name} ORDER BY id")] == sorted(set(range(ROWS)) - gone)
