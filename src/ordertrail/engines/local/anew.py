"""Writes all rows of a table anew, as data files of about equal size."""

from __future__ import annotations

import shutil
from pathlib import Path

from ordertrail.delta.actions import AddFile
from ordertrail.delta.log import storage_error
from ordertrail.delta.table import Table
from ordertrail.engines.local.session import Session
from ordertrail.parse.kernel import PARQUET
from ordertrail.rules.sql import quoted

FILE_SIZE_BYTES = 512 << 20
"""Approximate size of the new data files."""

_SCRATCH = "_rebuild"  # Readers and VACUUM ignore names with an underscore.


def write_anew(session: Session, table: Table, sql: str, batch: int) -> list[AddFile]:
    """Write a query's rows as new data files of a table; a failure removes what was written.

    Args:
        session: Runs the query.
        table: Gets the files; nothing is committed.
        sql: Its rows, with the table's columns.
        batch: The last batch that they hold, for the names of the files.

    Raises:
        StorageError: The disk is full or fails.
    """
    scratch = table.root / _SCRATCH
    options = f"{PARQUET}, FILE_SIZE_BYTES {FILE_SIZE_BYTES}, RETURN_STATS"
    files: list[AddFile] = []
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        written = session.run(f"COPY ({sql}) TO {quoted(str(scratch))} ({options})")
        for name, rows, *_ in written:
            if rows:
                files.append(_moved(table, Path(str(name)), int(str(rows)), batch))
        return files
    except OSError as error:
        for file in files:
            (table.root / file.path).unlink(missing_ok=True)
        raise storage_error(error, table.root) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _moved(table: Table, path: Path, rows: int, batch: int) -> AddFile:
    place = table.new_path(f"b{batch:06d}")
    path.rename(place)
    return table.added(place, rows)
