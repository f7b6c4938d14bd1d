"""`ordertrail rebuild`: makes the target the fold of the history again, to repair a damaged or modified target.

Rows that are right stay where they are: to those who read the changes of the target, they are no change.

It needs the history and the deliveries, and only the log of the target. On request (`from_archive`) a damaged or lost
history is first written anew from the archived files. A batch that is staged but not recorded is left out; the next
pass loads it from the stage, as after any crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import duckdb_errors
from ordertrail.engines.choice import placed
from ordertrail.engines.local.find import cover, is_indexed, open_index, uncovered
from ordertrail.engines.local.session import Session, others_on, tables_of
from ordertrail.engines.local.whole import cured
from ordertrail.errors import OrdertrailError
from ordertrail.keep.from_archive import HistoryReport, history_from_archive
from ordertrail.keep.refold import Differences, Rebuild
from ordertrail.keep.stage_again import stage_again
from ordertrail.lock import pipeline_lock
from ordertrail.markers import require_tables
from ordertrail.model import Probe, no_probe
from ordertrail.parse.database import connected
from ordertrail.scratch import SPILL

__all__ = ["Differences", "HistoryReport", "RebuildReport", "rebuild"]


class RebuildReport(Struct, frozen=True):
    """What a rebuild did, or would do.

    Attributes:
        pipeline: The pipeline's name.
        dry_run: Whether nothing was written.
        batch: The last batch with the done mark: its rows, and those of all before it, were folded; 0 for none.
        history_rows: Accepted rows that were folded.
        rows: Rows of the rebuilt target.
        files: New data files; 0 in a dry run, and when no row had to be written.
        written: Rows that were written because the target lacked them or had them otherwise.
        version: The target's version that holds them; None in a dry run.
        created: Whether the table was created because there was no target.
        differences: In a dry run, how the target differs now; None when it cannot be read, or there is none.
        notes: Further information for a person, one line each.
        warnings: What a person must look at, one line each.
        seconds: How long it took.
        history: The rebuilt history; None when only the target was rebuilt.
    """

    pipeline: str
    dry_run: bool
    batch: int
    history_rows: int
    rows: int
    files: int
    written: int
    version: int | None
    created: bool
    differences: Differences | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float
    history: HistoryReport | None = None


def rebuild(
    config: Config,
    *,
    dry_run: bool = False,
    from_archive: bool = False,
    progress: Callable[[str], None] = no_probe,
    probe: Probe = no_probe,
) -> RebuildReport:
    """Make the target of a pipeline the fold of its history, in one commit that changes only the rows that differ.

    Contract columns, `_rescued` and audit columns come out as undisturbed batches would have left them. Rows that
    others wrote to the target are gone. Idempotent; killed at any instant, the target is the old one or the new one.

    Args:
        config: Of the pipeline.
        dry_run: Whether only to count the rows that would differ.
        from_archive: First write history and rejects anew from the archived files, in one commit each.
        progress: Called with a description of each step.
        probe: Called after every effect with its name; for fault tests.

    Raises:
        PassRunningError: A pass is running; nothing was done.
        TableError: The history or the deliveries are damaged, or the target's log is, or the table is not ours. The
            hint says what to do; the target was not touched.
        StorageError: The disk is full or fails; the target was not touched.
        CommitConflictError: Another writer was faster again and again; nothing was written.
    """
    began = time.perf_counter()
    config = placed(config)
    require_tables(config)
    with (
        pipeline_lock(config),
        connected(config.threads, config.memory_limit_mb, config.warehouse / SPILL) as con,
        ThreadPoolExecutor(max_workers=1) as pool,
        cured(config),
        duckdb_errors("cannot rebuild the target"),
    ):
        session = Session(config, con, pool, tables_of(config), "", probe)
        history = None
        if from_archive:
            history = history_from_archive(session, dry_run=dry_run, progress=progress)
            if dry_run:
                return _planned(session, history, began)
        report = _rebuild(session, dry_run, progress, began)
        return report if history is None else _together(report, history)


def _planned(session: Session, history: HistoryReport, began: float) -> RebuildReport:
    """What a rebuild of the history would do; it says nothing about the target, whose history does not exist yet."""
    return RebuildReport(
        pipeline=session.config.name,
        dry_run=True,
        batch=session.tables.deliveries.snapshot().last_txn(session.app_id),
        history_rows=history.history_rows,
        rows=0,
        files=0,
        written=0,
        version=None,
        created=False,
        differences=None,
        notes=history.notes,
        warnings=history.warnings,
        seconds=round(time.perf_counter() - began, 4),
        history=history,
    )


def _together(report: RebuildReport, history: HistoryReport) -> RebuildReport:
    notes, warnings = (*history.notes, *report.notes), (*history.warnings, *report.warnings)
    return replace(report, notes=notes, warnings=warnings, history=history)


def _rebuild(session: Session, dry_run: bool, progress: Callable[[str], None], began: float) -> RebuildReport:
    progress("reading the history")
    work = Rebuild(session)
    before = work.target()
    if not dry_run:
        before = work.bring_up_to_date()
    progress("folding the history")
    rows = work.fold()
    notes, warnings = _notes(work, before), []
    if not dry_run and (made := stage_again(session, work.done)) is not None:
        notes.append(made)
    differences, files, written, version = None, 0, 0, None
    if dry_run:
        progress("comparing")
        try:
            differences = None if before is None else _compared(work, before)
        except OrdertrailError as error:
            warnings.append(f"the target cannot be read: {error.message}")
    else:
        progress("writing the target")
        if session.config.appends and before is not None and (extra := work.differences(before).extra):
            warnings.append(
                f"{extra} rows of the target are not in the history, and stay: none can be taken out of a table that "
                "is append only"
            )
        unread = [] if before is None else work.carry(before)
        warnings += [f"{path} could not be read: columns of others are NULL for its rows" for path in unread]
        settled = work.write(before)
        session.probe("rebuild.files")
        version, settled = work.commit(settled, rows)
        files, written = len(settled.new), settled.written
        _index(session, progress)
    return RebuildReport(
        pipeline=session.config.name,
        dry_run=dry_run,
        batch=work.done,
        history_rows=work.history_rows,
        rows=rows,
        files=files,
        written=written,
        version=version,
        created=before is None and not dry_run,
        differences=differences,
        notes=tuple(notes),
        warnings=tuple(warnings),
        seconds=round(time.perf_counter() - began, 4),
    )


def _index(session: Session, progress: Callable[[str], None]) -> None:
    """Index the target's new files, so that the next batch finds its keys at once."""
    target = session.tables.target.snapshot()
    if not is_indexed(session.config, target):
        return
    with closing(open_index(session.config, target)) as session.index:
        if new := uncovered(session.index, target):
            progress("indexing the keys")
            cover(session, target, new)
            session.probe("rebuild.indexed")
    session.index = None


def _compared(work: Rebuild, target: Snapshot) -> Differences:
    with duckdb_errors("it cannot be compared"):
        return work.differences(target)


def _notes(work: Rebuild, target: Snapshot | None) -> list[str]:
    notes = []
    if target is None:
        notes.append("there is no target table; a rebuild creates it")
    elif others := others_on(target, work.contract):
        notes.append(f"columns of others are kept: {', '.join(column.name for column in others)}")
    if work.staged > work.done:
        notes.append(f"batch {work.staged} is staged and not finished; the next pass loads it")
    return notes
