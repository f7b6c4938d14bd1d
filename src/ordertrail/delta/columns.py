"""Reads columns of a small table in its folder: plain Python and Parquet, without DuckDB, to answer at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ordertrail.delta.snapshot import Snapshot
from ordertrail.errors import OrdertrailError, StorageError, TableError
from ordertrail.rules.tables import TableColumn

if TYPE_CHECKING:
    import pyarrow as pa

    from ordertrail.delta.actions import AddFile

Columns = Callable[[Sequence[str]], "pa.Table"]
"""Reads some columns of all rows; every call returns the rows in the same order."""


def columns_in(snapshot: Snapshot, columns: Sequence[TableColumn], few: Collection[str] = ()) -> Columns:
    """The columns of a small table in its folder.

    Args:
        snapshot: The table.
        columns: What it has; one that it lacks is read as NULL.
        few: Those of text with few distinct ones: they are dictionaries.

    Raises:
        TableError: A data file or a deletion vector is damaged or gone.
        StorageError: A data file cannot be read.
    """
    types = {column.name: column.type for column in columns}

    def read(names: Sequence[str]) -> pa.Table:
        import pyarrow as pa

        from ordertrail.arrow import arrow_schema

        snapshot.require_readable()
        # Engines write one type in several ways: Spark's times have nanoseconds and no zone.
        schema = arrow_schema((name, types[name]) for name in names)
        for place, field in enumerate(schema):
            if field.name in few:
                schema = schema.set(place, field.with_type(pa.dictionary(pa.int32(), field.type)))
        batches = [rows for file in snapshot.files.values() for rows in _rows_of(snapshot, file, schema)]
        return pa.Table.from_batches(batches, schema)

    return read


def _rows_of(snapshot: Snapshot, file: AddFile, schema: pa.Schema) -> list[pa.RecordBatch]:
    """The live rows of a data file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ordertrail.arrow import conformed

    path = snapshot.path_of(file)
    try:
        few = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        with pq.ParquetFile(path, read_dictionary=few) as opened:
            batches = [conformed(rows, schema) for rows in opened.iter_batches(columns=schema.names)]
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    return _live(snapshot, file, batches) if file.deletion_vector is not None else batches


def _live(snapshot: Snapshot, file: AddFile, batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The rows of a data file that its deletion vector does not mark."""
    import numpy as np
    import pyarrow as pa

    from ordertrail.delta.vectors import deleted_rows

    alive = np.ones(sum(batch.num_rows for batch in batches), dtype=bool)
    try:
        alive[deleted_rows(snapshot.root, file)] = False
    except IndexError as error:
        raise unreadable(snapshot.path_of(file), error) from error
    found, first = [], 0
    for batch in batches:
        found.append(batch.filter(pa.array(alive[first : first + batch.num_rows])))
        first += batch.num_rows
    return found


def unreadable(path: Path, error: Exception) -> OrdertrailError:
    """The error for a data file that cannot be read, with what to do."""
    hint = "restore it from a backup; ordertrail verify says all that is wrong, and what cures it"
    if path.exists():
        return StorageError(f"cannot read {path}: {error}", hint=hint)
    return TableError(f"the data file {path.name} of {path.parent.name} is not there", hint=hint, path=path)
