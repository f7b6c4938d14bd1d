"""Record: history, rejects and, last, deliveries, the done mark. Each is one commit with the batch's `txn`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from msgspec.structs import replace

from ordertrail.delta.actions import AddFile, Json
from ordertrail.delta.said import number
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Change, Table, scan_sql
from ordertrail.engines.batch_rows import (
    CHANGED_COLUMNS,
    changed_deliveries,
    counted,
    delivery_rows,
    has_rejects,
    rejects_sql,
)
from ordertrail.engines.embedded.apply import share_file
from ordertrail.engines.embedded.shorten import shorten_stage
from ordertrail.engines.local.accepted import WeighedHere, accepted_rows_sql
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.whole import ACCEPTED
from ordertrail.model import Batch, RowCounts, State
from ordertrail.rules.accepted import ACCEPTED_ROWS, RECORDED
from ordertrail.rules.audit import CHANGED, clock_sql, listed_sql
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import DELIVERIES, history_columns, stage_columns

MOST_FILES = 12
"""With so many small data files of `orders_deliveries`, they become one; likewise with so many large ones."""

SMALL_FILE_ROWS = 1_000
"""A data file of `orders_deliveries` with fewer rows is small."""


class Shared(Struct):
    """Data files of the target that the history shares.

    Attributes:
        files: Each with its path.
        rest: Whether they hold only the rows that changed the target, so that other accepted rows must still be
            written.
    """

    files: tuple[tuple[Path, AddFile], ...] = ()
    rest: bool = False


class LocalRecorder:
    """`Recorder` on tables in folders, by commits of our own.

    Args:
        weighing: The weighing of the batch; it has the outcomes once the batch has been weighed.
        shared: Data files that the applier shares with the history; None when it shares none.
    """

    def __init__(self, weighing: WeighedHere, shared: Shared | None = None) -> None:
        self._weighing = weighing
        self._session = weighing.session
        self._batch = weighing.batch
        self._shared = shared or Shared()

    @property
    def target_name(self) -> str:
        """See `Recorder.target_name`."""
        return self._session.tables.target.root.name

    def target(self) -> tuple[int, int]:
        """See `Recorder.target`."""
        newest = self._session.tables.target.snapshot()
        return newest.version, newest.last_txn(self._session.app_id)

    def committed(self) -> int | None:
        """See `Recorder.committed`."""
        return self._session.tables.target.version_of(self._session.app_id, self._batch.number)

    def recorded(self) -> Mapping[str, RowCounts] | None:
        """See `Recorder.recorded`."""
        session = self._session
        history = session.tables.history.snapshot()
        if history.last_txn(session.app_id) < self._batch.number:
            return None
        rows = scan_sql(session.con, history, history_columns(session.config.contract))
        found = session.run(
            f"SELECT _delivery_id, _outcome, count(*) FROM {rows} WHERE _batch = {self._batch.number} GROUP BY ALL"
        )
        return counted(self._batch, found)

    def history(self) -> None:
        """See `Recorder.history`."""
        self._append(self._session.tables.history, "history", self._history_files)

    def rejects(self) -> None:
        """See `Recorder.rejects`."""
        self._append(self._session.tables.rejects, "rejects", self._reject_files)

    def deliveries(self, counts: Mapping[str, RowCounts]) -> None:
        """See `Recorder.deliveries`."""
        session, batch, table = self._session, self._batch, self._session.tables.deliveries
        base = table.snapshot()
        if base.last_txn(session.app_id) >= batch.number:
            return
        rows = delivery_rows(batch, counts)
        path = table.new_path(f"b{batch.number:06d}")
        pq.write_table(rows, path)
        changed = changed_deliveries(batch)
        remove = list(base.files.values()) if changed.num_rows else merged_files(base.files.values())
        if remove:
            path, small = table.new_path(f"b{batch.number:06d}"), path
            old = replace(base, files={file.path: file for file in remove})
            added = f"read_parquet({quoted(str(small))})"
            amend(session, old, changed, CHANGED_COLUMNS, path, f" UNION ALL BY NAME FROM {added}")
            small.unlink()
        total = rows.num_rows + sum(file.rows or 0 for file in remove)
        session.probe("deliveries.files")
        info: dict[str, Json] = {ACCEPTED: _accepted(session, batch, base, counts), "deliveries": rows.num_rows}
        change = Change(session.txn(batch), "WRITE", [table.added(path, total)], remove, info)
        version = table.commit(base, change)
        session.probe("deliveries.committed")
        table.checkpoint_if_due(version)

    def _append(self, table: Table, name: str, write: Callable[[], list[AddFile]]) -> None:
        session = self._session
        base = table.snapshot()
        if base.last_txn(session.app_id) >= self._batch.number:
            return
        add = write()
        session.probe(f"{name}.files")
        version = table.commit(base, Change(session.txn(self._batch), "WRITE", add))
        session.probe(f"{name}.committed")
        table.checkpoint_if_due(version)

    def _history_files(self) -> list[AddFile]:
        """Write every accepted row of the batch with its outcome; rows in the target have the target's audit columns.

        In recovery `outcomes` was computed after the target's commit: the target's new row has the time of first
        insertion from the row before it.
        """
        session, table = self._session, self._session.tables.history
        files = [share_file(path, table.root, file) for path, file in self._shared.files]
        if files and not self._shared.rest:
            return files
        wanted = tuple(number for number in CODES.values() if not (files and number in CHANGED))
        path = table.new_path(f"b{self._batch.number:06d}")
        change = self._weighing.said
        listed = listed_sql(wanted)
        if not session.run(f"SELECT count(*) FROM {change.weighed.outcomes} WHERE outcome IN {listed}")[0][0]:
            return files
        with session.joins_as_written():
            rows = session.copy(accepted_rows_sql(session, change, wanted, for_history=True), path)
        return [*files, table.added(path, rows)]

    def _reject_files(self) -> list[AddFile]:
        """Write one row for each error."""
        session, table, batch = self._session, self._session.tables.rejects, self._batch
        if not has_rejects(batch):
            return []
        path = table.new_path(f"b{batch.number:06d}")
        try:
            rows = _copy_rejects(session, self._weighing.stage, batch, path)
        except duckdb.OutOfMemoryException:
            shorten_stage(session)
            rows = _copy_rejects(session, session.tables.stage.snapshot(), batch, path)
        if rows == 0:
            path.unlink()
            return []
        return [table.added(path, rows)]


def merged_files(files: Collection[AddFile]) -> list[AddFile]:
    """The data files of `orders_deliveries` that become one with a batch's own: every pass reads them all.

    Small ones are merged often, and what became large seldom, so that few rows are written again.
    """
    small = [file for file in files if file.rows is not None and file.rows < SMALL_FILE_ROWS]
    if len(files) - len(small) >= MOST_FILES:
        return list(files)
    return small if len(small) >= MOST_FILES else []


def mark_archived(session: Session, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
    """See `Engine.archived`. The mark is a `txn` of the deliveries table under an application id of its own."""
    table = session.tables.deliveries
    base = table.snapshot()
    txn = session.archive_txn(batch)
    if (marked := base.last_txn(txn.app_id)) >= batch.number:
        elsewhere = _differing(session, base, elsewhere)
        if not elsewhere:
            return
        txn = replace(txn, version=marked)
    add: list[AddFile] = []
    remove: list[AddFile] = []
    if elsewhere:
        add, remove = [_amended(session, batch, base, elsewhere)], list(base.files.values())
    version = table.commit(base, Change(txn, "ARCHIVE", add, remove))
    session.probe("archived.committed")
    table.checkpoint_if_due(version)


def _differing(session: Session, base: Snapshot, elsewhere: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """The entries that differ from the table; a repeated call writes nothing."""
    if not elsewhere:
        return elsewhere
    rows = session.run(f"SELECT delivery_id, archived_to FROM {scan_sql(session.con, base, DELIVERIES)}")
    known = {str(one): place for one, place in rows}
    return {one: place for one, place in elsewhere.items() if one in known and known[one] != place}


def _amended(session: Session, batch: Batch, base: Snapshot, elsewhere: Mapping[str, str | None]) -> AddFile:
    """Write the deliveries again, with another `archived_to` for some."""
    table = session.tables.deliveries
    moved = {
        "delivery_id": pa.array(list(elsewhere), pa.string()),
        "archived_to": pa.array(list(elsewhere.values()), pa.string()),
    }
    path = table.new_path(f"b{batch.number:06d}")
    return table.added(path, amend(session, base, pa.table(moved), ("archived_to",), path))


def amend(
    session: Session, base: Snapshot, amended: pa.Table, columns: Sequence[str], path: Path, more: str = ""
) -> int:
    """Write all deliveries to a new file, with other values in some columns of some.

    Args:
        session: The pass.
        base: The deliveries as they are.
        amended: `delivery_id` and the columns.
        columns: Which ones.
        path: The new file.
        more: SQL that follows the query, for more rows.

    Returns:
        The number of rows written.
    """
    names = ", ".join(
        f"CASE WHEN a.delivery_id IS NULL THEN d.{name} ELSE a.{name} END AS {name}"
        if column.name in columns
        else f"d.{name}"
        for column in DELIVERIES
        if (name := name_sql(column.name))
    )
    before = scan_sql(session.con, base, DELIVERIES)
    session.con.register("amended", amended)
    try:
        return session.copy(f"SELECT {names} FROM {before} d LEFT JOIN amended a USING (delivery_id){more}", path)
    finally:
        session.con.unregister("amended")


def _copy_rejects(session: Session, stage: Snapshot, batch: Batch, path: Path) -> int:
    staged = scan_sql(session.con, stage, stage_columns(session.config.contract))
    return session.copy(rejects_sql(batch, staged, clock_sql(batch.clock)), path)


def _accepted(session: Session, batch: Batch, base: Snapshot, counts: Mapping[str, RowCounts]) -> int:
    """The number of accepted rows of all recorded deliveries, including this batch."""
    before = number(base.said, ACCEPTED)
    if before is None:
        found = session.run(f"SELECT coalesce(sum({ACCEPTED_ROWS}), 0) FROM {session.deliveries()} WHERE {RECORDED}")
        before = int(str(found[0][0]))
    loaded = [counts[m.delivery_id] for m in batch.manifests if m.state is State.LOADED]
    return before + sum(rows.parsed - rows.rejected for rows in loaded)
