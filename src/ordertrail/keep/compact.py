"""Compaction: rewrites some data files of a table as one, while passes go on.

Files are read and written without the pipeline's lock. Only the commit needs it, for a moment: rows that a pass has
marked in the old files meanwhile are translated into a vector on the new file, which holds the live rows of the old
files in order. A reader sees the same rows before and after, so the commit says that no data changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from ordertrail.arrow import arrow_type, conformed
from ordertrail.delta import vectors
from ordertrail.delta.actions import AddFile
from ordertrail.delta.debt import Compaction
from ordertrail.delta.said import commit_info
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Table, duckdb_errors, said_after
from ordertrail.engines.local.find import cover
from ordertrail.engines.local.session import Session
from ordertrail.errors import CommitConflictError, TableError, UnsupportedTableError
from ordertrail.parse.kernel import PARQUET, SMALL_PARQUET, SMALL_ROWS
from ordertrail.rules.sql import quoted

ATTEMPTS = 5
"""How often the commit is tried when another writer takes the table's next version."""

BATCH_ROWS = 122_880
"""Rows in memory at a time; also the size of DuckDB's row groups."""

Locked = Callable[[], AbstractContextManager[None]]
"""Takes the pipeline's lock."""


class _Old(Struct, frozen=True):
    """A data file when it was read: the rows of its vector, and where its live rows begin in the new file."""

    file: AddFile
    deleted: vectors.Rows
    start: int
    rows: int


def compact(session: Session, table: Table, plan: Compaction, locked: Locked) -> str | None:
    """Rewrite the files of a plan as one, in one commit.

    Args:
        session: DuckDB, and the probe.
        table: Which one.
        plan: From `delta.debt.compactions`.
        locked: Takes the pipeline's lock for the commit.

    Returns:
        None when it is done; else the reason: somebody else rewrote the files or restored deleted rows meanwhile.

    Raises:
        UnsupportedTableError: The table has a feature or a type that we do not write.
    """
    base = table.snapshot()
    base.require_writable()
    if not all(path in base.files for path in plan.files):
        return "somebody else wrote these files again"
    path = table.new_path("c")
    whole = False
    try:
        olds = _write(session, base, [base.files[name] for name in plan.files], path)
        rows = olds[-1].start + olds[-1].rows
        new = table.added(path, rows) if rows else None
        session.probe("maintain.files")
        if new is not None and table is session.tables.target:
            _cover(session, base, new)
        whole = True
    finally:
        if not whole:
            path.unlink(missing_ok=True)
    # From here on the file may be live, whatever is raised; if it is not, it is swept when it is old enough.
    with locked():
        done = _commit(session, table, olds, new)
    if not done.used:
        path.unlink(missing_ok=True)
    return done.given_up


def tidy_index(session: Session, target: Snapshot) -> None:
    """Merge the runs of the target's key index, and drop entries of files that are gone.

    Raises:
        StorageError: The disk is full or failing; the index is as good as before.
    """
    if session.index is not None:
        with duckdb_errors("cannot tidy the key index"):
            session.index.tidy(target.files.keys(), everything=True)
        session.probe("maintain.tidied")


def commit_optimize(table: Table, base: Snapshot, add: Sequence[AddFile], remove: Sequence[AddFile]) -> int:
    """Commit files that replace others with the same rows, as exactly the next version.

    The commit carries no `txn`, because it loads no batch.

    Returns:
        The new version.

    Raises:
        CommitConflictError: Somebody else took the version; nothing was written.
        CommitUnknownError: As in `DeltaLog.commit`.
        UnsupportedTableError: The table has a feature we do not write to.
    """
    base.require_writable()
    now_ms = time.time_ns() // 1_000_000
    said = said_after(base.said, base, add, remove)
    info = commit_info(now_ms, "OPTIMIZE", {"predicate": "[]"}, base.version, blind=False, said=said)
    info["operationMetrics"] = {"numAddedFiles": str(len(add)), "numRemovedFiles": str(len(remove))}
    actions = [file.remove(now_ms, data_change=False) for file in remove]
    actions += [file.add(data_change=False) for file in add]
    table.log.commit(base.version + 1, [{"commitInfo": info}, *actions])
    return base.version + 1


def moved(deleted_before: vectors.Rows, deleted_now: vectors.Rows, start: int) -> vectors.Rows | None:
    """The places in the new file of rows that were deleted since.

    Args:
        deleted_before: Rows of the old file that were not written to the new one, ascending.
        deleted_now: Rows of the old file that are deleted now, ascending.
        start: The place of the old file's first live row in the new file.

    Returns:
        Places in the new file, ascending; None when a row that was deleted is live again.
    """
    since = np.setdiff1d(deleted_now, deleted_before, assume_unique=True)
    if len(since) != len(deleted_now) - len(deleted_before):
        return None
    places: vectors.Rows = start + since - np.searchsorted(deleted_before, since)
    return places


# -- writing --------------------------------------------------------------------------------------------------------


def _write(session: Session, base: Snapshot, files: Sequence[AddFile], path: Path) -> list[_Old]:
    """Write the live rows of some files, in order; no file is created when there are none."""
    schema = _schema(base)
    olds: list[_Old] = []
    start = 0
    for file in files:
        deleted = vectors.deleted_rows(base.root, file)
        with duckdb_errors(f"cannot read {base.path_of(file)}"):
            rows = pq.read_metadata(base.path_of(file)).num_rows - len(deleted)
        olds.append(_Old(file, deleted, start, rows))
        start += rows
    if not start:
        return olds
    reader = pa.RecordBatchReader.from_batches(schema, _batches(base, olds, schema))
    with duckdb_errors("cannot write the compacted file"), session.con.cursor() as con:
        # Positions are translated by the order of the rows.
        con.execute("SET preserve_insertion_order = true").fetchall()
        con.register("compacted_rows", reader)
        options = SMALL_PARQUET if start < SMALL_ROWS else PARQUET
        written = con.execute(f"COPY (FROM compacted_rows) TO {quoted(str(path))} ({options})").fetchall()[0][0]
        con.unregister("compacted_rows")
    if written != start:
        raise TableError(
            f"{base.root.name} has {start} rows in these files, but {written} were read; it was not touched",
            hint="run ordertrail verify",
        )
    return olds


def _batches(base: Snapshot, olds: Sequence[_Old], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for old in olds:
        if not old.rows:
            continue
        at = 0
        with pq.ParquetFile(base.path_of(old.file)) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                low, high = np.searchsorted(old.deleted, [at, at + batch.num_rows])
                if low < high:
                    keep = np.ones(batch.num_rows, dtype=bool)
                    keep[old.deleted[low:high] - at] = False
                    yield conformed(batch, schema).filter(pa.array(keep))
                else:
                    yield conformed(batch, schema)
                at += batch.num_rows


def _schema(base: Snapshot) -> pa.Schema:
    """All columns of the table, those of others included, as an Arrow schema.

    Raises:
        UnsupportedTableError: A column has a type that we do not write.
    """
    fields = []
    for column in json.loads(base.metadata.schema_string)["fields"]:
        name, kind = column["name"], column["type"]
        try:
            fields.append(pa.field(name, arrow_type(kind)))
        except (KeyError, TypeError):
            raise UnsupportedTableError(
                f"{base.root.name} has the column {name} of the type {kind}, which ordertrail cannot rewrite",
                hint="compact this table with the tool that added the column",
            ) from None
    return pa.schema(fields)


def _cover(session: Session, base: Snapshot, new: AddFile) -> None:
    """Index the new file before it is live; otherwise the next pass would have to read it."""
    if session.index is not None:
        with duckdb_errors("cannot index the compacted file"):
            cover(session, base, [new])
        session.probe("maintain.indexed")


# -- committing -----------------------------------------------------------------------------------------------------


class _Committed(Struct, frozen=True):
    """The result of a commit: whether the new file is live, and why nothing was committed."""

    used: bool
    given_up: str | None = None


def _commit(session: Session, table: Table, olds: Sequence[_Old], new: AddFile | None) -> _Committed:
    """Replace the old files, as they are now, by the new one."""
    rows = 0 if new is None else new.rows or 0
    for attempt in range(ATTEMPTS):
        now = table.snapshot()
        gone = _deleted_since(now, olds)
        if isinstance(gone, str):
            return _Committed(False, gone)
        add = [new] if new is not None and len(gone) < rows else []
        if add and len(gone):
            if not now.takes_vectors:
                return _Committed(False, "rows were deleted meanwhile, and the table takes no vectors any more")
            add = [one.marked(vectors.write_vectors(now.root, [gone])[0], rows) for one in add]
            session.probe("maintain.vectors")
        try:
            version = commit_optimize(table, now, add, [now.files[old.file.path] for old in olds])
        except CommitConflictError:
            if attempt + 1 < ATTEMPTS:
                continue
            raise
        session.probe("maintain.committed")
        table.checkpoint_if_due(version)
        return _Committed(bool(add))
    raise AssertionError("the last attempt ends the loop")


def _deleted_since(now: Snapshot, olds: Sequence[_Old]) -> vectors.Rows | str:
    found: list[vectors.Rows] = []
    for old in olds:
        live = now.files.get(old.file.path)
        if live is None or live.size_bytes != old.file.size_bytes:
            return "somebody else rewrote these files meanwhile"
        if live.deletion_vector == old.file.deletion_vector:
            continue
        places = moved(old.deleted, vectors.deleted_rows(now.root, live), old.start)
        if places is None:
            return "somebody brought deleted rows back meanwhile"
        found.append(places)
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)
