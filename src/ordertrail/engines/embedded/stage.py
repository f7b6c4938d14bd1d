"""Stage: parses the files of a batch and overwrites `orders_stage` in one commit with all that recovery needs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from ordertrail.delta.actions import AddFile, Json
from ordertrail.delta.log import storage_error
from ordertrail.delta.table import Change, scan_sql
from ordertrail.engines.base import Staged, StageRequest
from ordertrail.engines.batch_rows import (
    STAGED_COLUMNS,
    decided,
    header_rows,
    manifests_of,
    reject_headers,
    reject_rows_sql,
    staged_batch,
)
from ordertrail.engines.embedded.shorten import shorten_stage
from ordertrail.engines.load import overtaken
from ordertrail.engines.local.accepted import ROWS_TAG
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.shares import over_shares
from ordertrail.errors import TableError
from ordertrail.model import Batch
from ordertrail.parse.job import ParsedBatch, ParsedFile, ParseJob
from ordertrail.rules.audit import clock_sql, inserted_sql
from ordertrail.rules.tables import stage_columns

NewPath = Callable[[str], Path]
"""Returns a new, unused data file name for a kind of content."""


def stage_batch(session: Session, request: StageRequest) -> Staged:
    """See `Engine.stage`."""
    table, batch = session.tables.stage, request.batch
    base = table.snapshot()
    if base.last_txn(session.app_id) >= batch.number:
        # Where no lock reaches, another pass may have staged since the plan; put-if-absent covers the time after this
        # check.
        raise overtaken(batch)
    prefix = f"b{batch.number:06d}"
    written: list[Path] = []

    def new_path(kind: str) -> Path:
        written.append(table.new_path(f"{prefix}-{kind}"))
        return written[-1]

    try:
        _sweep(session, batch.number)
        parsed = _parsed(session, request, new_path)
        files, changed = decided(request, parsed.files)
        files = list(request.accept(files))
        gone = (*parsed.changed, *changed)
        if not files and request.correction is None:
            return Staged(batch, gone)
        manifests = manifests_of(request, files)
        whole = Batch(batch.number, batch.run_id, batch.clock, manifests)
        add = [table.added(path, rows, {ROWS_TAG: str(rows)}) for path, rows in parsed.rows]
        add += _rejects(session, whole, parsed.rejects, new_path)
        add.append(_deliveries(session, whole, files, new_path))
    except OSError as error:
        raise storage_error(error, table.root) from error
    session.probe("stage.files")
    info: dict[str, Json] = {"deliveries": len(manifests), "run_id": batch.run_id}
    change = Change(session.txn(batch), "STAGE", add, list(base.files.values()), info, anew=True)
    version = table.commit(base, change)
    session.probe("stage.committed")
    table.checkpoint_if_due(version)
    return Staged(whole, gone)


def _parsed(session: Session, request: StageRequest, new_path: NewPath) -> ParsedBatch:
    """The files, parsed: once more when some are held because of their keys, for nothing of them is staged."""

    def parsed(request: StageRequest) -> ParsedBatch:
        job = ParseJob(
            session.database,
            session.config.contract,
            limits=request.limits or session.config.limits,
            open_file=request.open_file,
            unchanged=request.unchanged,
            extra=staged_columns(request.batch),
            new_path=new_path,
            pool=session.pool,
        )
        return job.run(request.fresh)

    found = parsed(request)
    if not request.judges_shares or not (verdicts := over_shares(session, request, found)):
        return found
    for path in (*(path for path, _ in found.rows), *found.rejects):
        path.unlink()
    return parsed(request.judged(verdicts))


def read_staged(session: Session) -> Batch:
    """See `Engine.staged`."""
    try:
        rows = _manifests(session)
    except duckdb.OutOfMemoryException:
        shorten_stage(session)
        rows = _manifests(session)
    snapshot = session.tables.stage.snapshot()
    if not rows:
        return _batch_of_nothing(session, snapshot.txns[session.app_id])
    return staged_batch(snapshot.txns[session.app_id], [str(row[0]) for row in rows])


def _batch_of_nothing(session: Session, number: int) -> Batch:
    """The batch of a stage without rows: every file changed while Spark's executors read it.

    Raises:
        TableError: The stage had rows when it was committed; somebody removed them.
    """
    table = session.tables.stage
    version = table.version_of(session.app_id, number)
    if version is not None:
        staged = scan_sql(session.con, table.snapshot(version), stage_columns(session.config.contract))
        if session.run(f"SELECT count(*) FROM {staged}")[0][0] == 0:
            return Batch(number, uuid.uuid4().hex, datetime.now(UTC), ())
    raise TableError(
        "the stage holds no delivery", hint=f"restore {table.root.name} to the version of its last txn, {version}"
    )


def _manifests(session: Session) -> list[tuple[object, ...]]:
    relation = scan_sql(session.con, session.tables.stage.snapshot(), stage_columns(session.config.contract))
    return session.run(f"SELECT _manifest FROM {relation} WHERE _kind = 'delivery' ORDER BY _delivery_no")


def staged_columns(batch: Batch) -> list[tuple[str, str]]:
    """Columns of every staged row besides the kernel's: its origin, and its audit columns if it is inserted."""
    clock = clock_sql(batch.clock)
    return [
        *STAGED_COLUMNS,
        *inserted_sql(batch.number, clock).items(),
        ("_outcome", "CAST('inserted' AS ENUM('inserted'))"),
        ("_loaded_at", clock),
    ]


def _rejects(session: Session, batch: Batch, parts: Sequence[Path], new_path: NewPath) -> list[AddFile]:
    """Write the rejects of the batch as one stage file, from the kernel's parts, with the table's column names."""
    if not parts:
        return []
    path = new_path("rejects-all")
    session.con.register("reject_headers", reject_headers(batch))
    rows = session.copy(reject_rows_sql(parts), path)
    session.con.unregister("reject_headers")
    for part in parts:
        part.unlink()
    return [session.tables.stage.added(path, rows)]


def _deliveries(session: Session, batch: Batch, files: Sequence[ParsedFile], new_path: NewPath) -> AddFile:
    path = new_path("deliveries")
    rows = header_rows(batch, files)
    pq.write_table(rows, path)
    return session.tables.stage.added(path, rows.num_rows)


def _sweep(session: Session, batch: int) -> None:
    """Delete files of older batches from the stage's folder; those of the last two batches stay for slow readers."""
    table = session.tables.stage
    live = {path.name for path in table.snapshot().paths}
    for path in table.root.glob("b*.parquet"):
        number = path.name[1:].partition("-")[0]
        if number.isdigit() and int(number) < batch - 1 and path.name not in live:
            path.unlink(missing_ok=True)
