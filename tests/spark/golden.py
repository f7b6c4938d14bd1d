"""A small table with deletion vectors written by Spark, and what Spark reads of it; kept in `tests/golden`.

`python -m tests.spark.golden` writes it anew. `tests/unit/test_golden_vectors.py` reads it without Spark.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from tests.spark.session import Spark, at_path, start

FOLDER = Path(__file__).parents[1] / "golden" / "spark-vectors"
"""The table's folder; beside it is a JSON file of the same name with the expected vectors."""

ROWS = 140_000
"""More than two containers of a Roaring bitmap, which hold 65,536 numbers each."""

DELETES = (
    "thousand = 3 AND rest = 2",
    "thousand BETWEEN 40 AND 79",
    "rest = 1 AND thousand > 100",
    "thousand = 139",
)
"""One after the other: a sparse vector, a run over the border of two containers, a dense one, the last rows."""


def make(spark: Spark, root: Path) -> list[list[list[int]]]:
    """Write the table: one data file, and a vector that grows with each DELETE.

    Returns:
        For each version with a vector, the rows that Spark no longer reads, as `runs` gives them.
    """
    table = at_path(root)
    spark.run(
        f"CREATE TABLE {table} (thousand INT, rest INT) USING delta "
        "TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')"
    )
    spark.run(f"INSERT INTO {table} SELECT CAST(id DIV 1000 AS INT), CAST(id % 3 AS INT) FROM range(0, {ROWS}, 1, 1)")
    found = []
    for delete in DELETES:
        spark.run(f"DELETE FROM {table} WHERE {delete}")
        found.append(runs(set(range(ROWS)) - set(live_rows(spark, table))))
    return found


def live_rows(spark: Spark, table: str) -> list[int]:
    """The physical row numbers that Spark still reads of a table of one file."""
    return spark.arrow(f"SELECT _metadata.row_index AS place FROM {table}")["place"].to_pylist()  # type: ignore[no-any-return]


def runs(rows: set[int]) -> list[list[int]]:
    """Row numbers as [first, last, step] of runs with one step, to be kept as short text."""
    found: list[list[int]] = []
    for row in sorted(rows):
        if found and row == found[-1][1] + found[-1][2]:
            found[-1][1] = row
        elif found and found[-1][0] == found[-1][1] and row - found[-1][1] <= 3:
            found[-1][1:] = [row, row - found[-1][1]]
        else:
            found.append([row, row, 1])
    return found


def expand(found: list[list[int]]) -> list[int]:
    """The row numbers of `runs`, ascending."""
    return sorted(row for first, last, step in found for row in range(first, last + 1, step))


def main() -> None:
    """Write table and expectation anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    with tempfile.TemporaryDirectory() as warehouse:
        session = start(Path(warehouse))
        expected = make(Spark(session), FOLDER)
        session.stop()
    for extra in [*FOLDER.rglob("*.crc"), *FOLDER.rglob(".*.crc")]:
        extra.unlink(missing_ok=True)
    FOLDER.with_suffix(".json").write_text(json.dumps({"rows": ROWS, "deleted": expected}) + "\n")


if __name__ == "__main__":
    main()
