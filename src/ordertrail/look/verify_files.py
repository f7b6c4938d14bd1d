"""What `ordertrail verify` says about the files of the tables: do vectors fit, can another reader read the rows?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot, read_changes
from ordertrail.delta.table import CHANGES
from ordertrail.delta.vectors import read_vector
from ordertrail.errors import StorageError, TableError

LOST_CHANGES = (
    "who follows the change data feed must copy the target anew; nobody may delete in there. The target itself is whole"
)
"""What to do about a file with changes that is gone."""


def file_faults(tables: Iterable[Snapshot]) -> tuple[int, list[str]]:
    """Check that every data file exists and has its size.

    Returns:
        How many there are, and what is wrong, each text beginning with the name of its table.
    """
    wrong, count = [], 0
    for snapshot in tables:
        name = snapshot.root.name
        for file in snapshot.files.values():
            path = snapshot.path_of(file)
            count += 1
            if not path.is_file():
                wrong.append(f"{name} lacks its data file {path.name}")
            elif (size_bytes := path.stat().st_size) != file.size_bytes:
                wrong.append(f"{name}: the data file {path.name} has {size_bytes} bytes, not {file.size_bytes}")
    return count, wrong


def change_faults(target: Snapshot, retention_h: float) -> list[str]:
    """Check that every file with changes exists and has its size, as long as `maintain` keeps it.

    Args:
        target: Any version.
        retention_h: How long files stay that the newest version does not need, in hours.

    Returns:
        What is wrong, each text beginning with the name of the table.
    """
    wrong: list[str] = []
    if not (target.root / CHANGES).is_dir() and not target.feeds_changes:
        return wrong
    for file in read_changes(DeltaLog(target.root), time.time() - retention_h * 3600):
        path = target.path_of(file)
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            wrong.append(f"{target.root.name} lacks {file.path}, which holds changes of a version, or it is damaged")
    return wrong


def vector_faults(tables: Iterable[Snapshot]) -> tuple[int, list[str]]:
    """Read every vector completely, and check that its data file has as many rows as the log says.

    Returns:
        How many vectors there are, and what is wrong, each text beginning with the name of its table.
    """
    wrong, count = [], 0
    for snapshot in tables:
        name = snapshot.root.name
        for file in snapshot.files.values():
            if file.deletion_vector is None:
                continue
            count += 1
            try:
                marked = read_vector(snapshot.root, json.loads(file.deletion_vector))
                path = snapshot.path_of(file)
                rows = _footer_rows(path) if path.is_file() else None
            except (TableError, StorageError) as error:
                wrong.append(f"{name}: {error.message}")
                continue
            except (OSError, pa.ArrowException) as error:
                wrong.append(f"{name}: the data file {file.path} cannot be read: {error}")
                continue
            if rows is not None and file.rows != rows:
                wrong.append(f"{name}: the data file {file.path} has {rows} rows, by the log {file.rows}")
            if rows is not None and len(marked) and marked[-1] >= rows:
                wrong.append(f"{name}: a vector marks row {marked[-1]} of {file.path}, which has {rows} rows")
    return count, wrong


def reader_faults(tables: Iterable[Snapshot]) -> tuple[int, list[str]]:
    """Read every cell of every row as another reader would: with delta-rs, in the types that the tables declare.

    Rows are streamed; only their number is kept.

    Returns:
        How many rows were read, and what is wrong, each text beginning with the name of its table.
    """
    from deltalake import DeltaTable, QueryBuilder

    wrong, total = [], 0
    for snapshot in tables:
        name = snapshot.root.name
        try:
            table = DeltaTable(snapshot.root, version=snapshot.version)
            found = QueryBuilder().register("t", table).execute("SELECT * FROM t")
            rows = sum(batch.num_rows for batch in found)
        except Exception as error:  # noqa: BLE001 - delta-rs raises bare ones
            wrong.append(f"{name} cannot be read by delta-rs: {str(error).strip().partition(chr(10))[0]}")
            continue
        total += rows
        if snapshot.live_rows not in (None, rows):
            wrong.append(f"{name} has {rows} rows for delta-rs, by its log {snapshot.live_rows}")
    return total, wrong


def _footer_rows(path: Path) -> int:
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)
