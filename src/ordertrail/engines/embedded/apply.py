"""Applies a batch's outcomes to the target: determines the data files to add and to remove, in one of two ways.

`write_vectors` marks outdated rows in deletion vectors and adds one file with the new rows: its cost follows the batch.
`write_copies` replaces every file with an outdated row by one with the remaining rows: its cost follows the files
touched. It is the fall-back for tables that do not allow vectors, and every reader understands its files.

Both read the weighed batch, see `local.relations.WeighedBatch`.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from pyroaring import BitMap64

from ordertrail.delta import vectors
from ordertrail.delta.actions import AddFile
from ordertrail.delta.log import storage_error
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import ROW_BITS, scan_sql
from ordertrail.durable import fsync_file, fsync_folder
from ordertrail.engines.embedded.feed import feed_of, old_images_sql, write_changes
from ordertrail.engines.local.accepted import ChangeSet, accepted_rows_sql
from ordertrail.engines.local.find import cover, cover_staged, physical_rows
from ordertrail.engines.local.others import carry
from ordertrail.engines.local.relations import WeighedBatch
from ordertrail.engines.local.session import Session
from ordertrail.model import Outcome
from ordertrail.parse.kernel import PARQUET, SMALL_PARQUET, SMALL_ROWS
from ordertrail.rules.audit import CHANGED, listed_sql
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import TableColumn, target_columns

GONE = (CODES[Outcome.UPDATED], CODES[Outcome.REMOVED])
"""The numbers of the outcomes by which a row leaves the target."""

Doomed = list[tuple[AddFile, np.ndarray]]
"""Live data files with rows that go, and the numbers of these rows in each, ascending from 0."""


class Written(Struct, frozen=True):
    """The data files of one commit.

    Attributes:
        add: Data files to add.
        remove: Live data files to remove; a file whose rows are marked is in both.
        new: The data file of the new rows, when it holds nothing else and also has the history's columns.
        feed: Files with the commit's changes, where it does not say them by itself; see `embedded.feed`.
    """

    add: list[AddFile]
    remove: list[AddFile]
    new: AddFile | None = None
    feed: Sequence[AddFile] = ()


def write_vectors(session: Session, change: ChangeSet, before: Snapshot) -> Written:
    """Mark outdated rows, write the new ones to one file, and index it.

    The index comes before the commit: a run for a file that is not live is harmless, but a live file without one is
    slow to find rows in.
    """
    doomed = _doomed(session, change.weighed, before)
    add, remove = mark(session, before, doomed), [file for file, _ in doomed]
    if add:
        session.probe("load.vectors")
    carried = carry(session, change.weighed, before, change.others)
    images = bool(doomed) and feed_of(session.config, before) == "images"
    rows_sql = accepted_rows_sql(session, change, CHANGED, carried, for_history=change.plain, as_changes=images)
    new = _write_rows(session, change, [rows_sql], SMALL_PARQUET if change.staged_rows < SMALL_ROWS else PARQUET)
    if new is not None:
        add.append(new)
        if change.of_stage:
            cover_staged(session, change.weighed.staged, before, new)
        else:
            cover(session, before, [new])
        session.probe("load.indexed")
    feed = _images(session, change, before, new) if images else []
    return Written(add, remove, new if change.plain else None, feed)


def _images(session: Session, change: ChangeSet, before: Snapshot, new: AddFile | None) -> list[AddFile]:
    """The files with a batch's changes: the data file of the new rows, which says what they are, and the old rows."""
    old = old_images_sql(session, change.weighed, before, change.others, "doomed")
    written = write_changes(session, old, change.batch.number)
    session.probe("load.feed")
    return [file for file in (new, written) if file is not None]


def write_copies(session: Session, change: ChangeSet, before: Snapshot) -> Written:
    """Write the remaining rows of every file with an outdated one, and the new rows, to one file."""
    touched = [file for file, _ in _doomed(session, change.weighed, before)]
    carried = carry(session, change.weighed, before, change.others)
    parts = [accepted_rows_sql(session, change, CHANGED, carried, for_history=False)]
    if touched:
        parts.append(remaining_sql(session, before, touched, change.others, "doomed"))
    new = _write_rows(session, change, parts)
    feed: list[AddFile] = []
    if touched and feed_of(session.config, before) != "off":
        # The new file also holds rows that did not change: by itself the commit would say that they did.
        old = old_images_sql(session, change.weighed, before, change.others, "doomed")
        rows = accepted_rows_sql(session, change, CHANGED, carried, for_history=False, as_changes=True)
        written = write_changes(session, f"{old} UNION ALL BY NAME {rows}", change.batch.number)
        session.probe("load.feed")
        feed = [] if written is None else [written]
    return Written([] if new is None else [new], touched, feed=feed)


def mark(session: Session, before: Snapshot, doomed: Doomed) -> list[AddFile]:
    """Mark rows in deletion vectors; nothing is committed.

    Args:
        session: The pass.
        before: The target, which takes vectors.
        doomed: The live files with rows to mark.

    Returns:
        The files with their new vectors, without those of which no row is left, if nobody is misled by that.

    Raises:
        StorageError: The disk is full or fails.
    """
    marks: list[tuple[AddFile, int, BitMap64]] = []
    for file, gone in doomed:
        rows = physical_rows(before, file)
        all_gone = session.marked_rows(before, file) | vectors.bitmap_of(gone)
        # delta-rs 1.6 takes a removed file's vector for the rows that go, unless the file is added again.
        stays = before.feeds_changes and file.deletion_vector is not None
        if len(all_gone) < rows or stays:
            marks.append((file, rows, all_gone))
    if not marks:
        return []
    try:
        written = vectors.write_vectors(before.root, [rows for _, _, rows in marks])
    except OSError as error:
        raise storage_error(error, before.root) from error
    return [file.marked(vector, rows) for (file, rows, _), vector in zip(marks, written, strict=True)]


def remaining_sql(
    session: Session, before: Snapshot, touched: Sequence[AddFile], others: Sequence[TableColumn], doomed: str
) -> str:
    """SQL of the rows that stay of some files of the target, in the order of its columns.

    Args:
        session: The pass.
        before: The target.
        touched: The live files.
        others: Columns of others, which come last.
        doomed: A relation with the positions of the rows that go, `pos`.
    """
    columns = (*target_columns(session.config.contract), *others)
    names = ", ".join(name_sql(column.name) for column in columns)
    paths = {file.path for file in touched}
    places = ", ".join(str(place) for place, path in enumerate(before.files) if path in paths)
    return (
        f"SELECT {names} FROM {scan_sql(session.con, before, columns)} "
        f"WHERE (_pos >> {ROW_BITS}) IN ({places}) AND _pos NOT IN (SELECT pos FROM {doomed})"
    )


def rows_by_file(before: Snapshot, positions: np.ndarray) -> Doomed:
    """Positions of rows of a snapshot as row numbers within their files.

    Args:
        before: The snapshot.
        positions: Any positions in it, see `delta.table.ROW_BITS`.
    """
    if not len(positions):
        return []
    positions = np.sort(np.asarray(positions, dtype=np.int64))
    places = positions >> ROW_BITS
    starts = np.flatnonzero(np.diff(places)) + 1
    files = list(before.files.values())
    rows = np.split(positions & ((1 << ROW_BITS) - 1), starts)
    return [(files[place], gone) for place, gone in zip(places[[0, *starts]].tolist(), rows, strict=True)]


def share_file(path: Path, folder: Path, file: AddFile) -> AddFile:
    """Give a data file a second name in another table's folder, or a copy where there are no hard links.

    Readers of that table see only its columns: Delta readers take columns by name and ignore others.
    """
    name = f"{path.stem}-{uuid.uuid4().hex[:8]}.parquet"
    try:
        try:
            os.link(path, folder / name)
        except OSError:
            shutil.copyfile(path, folder / name)
            fsync_file(folder / name)
        fsync_folder(folder)
    except OSError as error:
        raise storage_error(error, folder / name) from error
    return AddFile(name, file.size_bytes, file.modified_ms, file.stats)


def _doomed(session: Session, weighed: WeighedBatch, before: Snapshot) -> Doomed:
    """The live files with outdated rows, and the numbers of these rows; creates `doomed` with their positions."""
    session.run(
        "CREATE OR REPLACE TEMP VIEW doomed AS "
        f"SELECT pos FROM {weighed.outcomes} WHERE outcome IN {listed_sql(GONE)} AND pos IS NOT NULL "
        f"UNION ALL SELECT pos FROM {weighed.best} WHERE copies > 1 AND place > 1"
    )
    return rows_by_file(before, session.con.execute("SELECT pos FROM doomed").fetchnumpy()["pos"])


def _write_rows(session: Session, change: ChangeSet, parts: list[str], parquet: str = PARQUET) -> AddFile | None:
    """Write the rows of some queries to one new data file; None when there are none."""
    table = session.tables.target
    path = table.new_path(f"b{change.batch.number:06d}")
    try:
        with session.joins_as_written():
            rows = session.copy(" UNION ALL BY NAME ".join(parts), path, parquet)
        if rows:
            return table.added(path, rows)
        path.unlink()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return None
