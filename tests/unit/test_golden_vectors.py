"""Bytes that Spark wrote: its deletion vectors mark for us the rows that Spark itself no longer read.

`tests/spark/golden.py` wrote table and expectation; here they are read without Spark.
"""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot, read_snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.delta.vectors import deleted_rows, read_vector, vector_file, write_vectors
from ordertrail.rules.tables import TableColumn
from tests.spark.golden import DELETES, FOLDER, expand

GOLDEN = json.loads(FOLDER.with_suffix(".json").read_text())
FIRST_VECTOR = 2
"""Version 0 makes the table, 1 fills it, and each later one is a DELETE."""

deletes = pytest.mark.parametrize("number", range(len(DELETES)), ids=["sparse", "run", "dense", "last"])


def at(number: int) -> tuple[Snapshot, list[int]]:
    """The table after a DELETE, and the rows that Spark then did not read."""
    return read_snapshot(DeltaLog(FOLDER), FIRST_VECTOR + number), expand(GOLDEN["deleted"][number])


@deletes
def test_a_vector_of_spark_marks_the_rows_that_spark_does_not_read(number: int) -> None:
    """Array, run and bitmap containers, over the borders of containers, to the last row of the file."""
    snapshot, expected = at(number)
    (file,) = snapshot.files.values()
    assert deleted_rows(FOLDER, file).tolist() == expected
    descriptor = json.loads(str(file.deletion_vector))
    path = vector_file(FOLDER, descriptor)
    assert path is not None
    assert path.parent == FOLDER
    assert read_vector(FOLDER, descriptor).tolist() == expected


@deletes
def test_the_live_rows_are_what_spark_reads(number: int) -> None:
    """Through the scan of all our reads, and as delta-rs reads them."""
    snapshot, expected = at(number)
    with duckdb.connect(config={"threads": 1}) as con:
        relation = scan_sql(con, snapshot, [TableColumn("thousand", "int", ""), TableColumn("rest", "int", "")])
        live = con.sql(f"SELECT _pos, thousand, rest FROM {relation} ORDER BY _pos").fetchall()
    rows = sorted(set(range(GOLDEN["rows"])) - set(expected))
    assert live == [(row, row // 1000, row % 3) for row in rows]
    table = QueryBuilder().register("t", DeltaTable(FOLDER, version=snapshot.version))
    counted = pa.table(table.execute("SELECT count(*) AS n, sum(thousand * 3 + rest) AS s FROM t")).to_pylist()
    assert counted == [{"n": len(rows), "s": sum(row // 1000 * 3 + row % 3 for row in rows)}]


@deletes
def test_our_vector_of_the_same_rows_is_no_larger_than_sparks(tmp_path: Path, number: int) -> None:
    """The size that a descriptor gives is that of the serialised bitmap; ours keeps runs as runs."""
    snapshot, expected = at(number)
    (file,) = snapshot.files.values()
    theirs = json.loads(str(file.deletion_vector))
    (ours,) = write_vectors(tmp_path, [deleted_rows(FOLDER, file)])
    assert ours["cardinality"] == theirs["cardinality"] == len(expected)
    assert int(str(ours["sizeInBytes"])) <= theirs["sizeInBytes"]
    assert read_vector(tmp_path, ours).tolist() == expected
