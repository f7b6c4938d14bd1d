"""Stage: parse the files of a batch and overwrite `orders_stage` in one commit that holds all a crash could need."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ordertrail.delta.actions import AddFile, Json
from ordertrail.delta.log import storage_error
from ordertrail.delta.table import Change, scan_sql
from ordertrail.engines.base import Staged, StageRequest
from ordertrail.engines.session import Session, clock_sql
from ordertrail.errors import CommitConflictError, TableError
from ordertrail.model import Batch, Manifest, State
from ordertrail.parse.job import ParsedFile, ParseJob
from ordertrail.rules.cells import quoted
from ordertrail.rules.filekey import archive_path
from ordertrail.rules.manifests import from_json, to_json
from ordertrail.rules.planning import Candidate, LoadedFile, delivery_number
from ordertrail.rules.tables import stage_columns

ROWS_TAG = "ordertrail.rows"
"""Tag of a stage file that holds good rows only, with the audit columns of rows that are all inserted: when they
are, the file itself can become a file of target and history (see `embedded_load`)."""


NewPath = Callable[[str], Path]
"""Gives a data file name that nobody has, for a kind of content."""


def stage_batch(session: Session, request: StageRequest) -> Staged:
    """See `Engine.stage`."""
    table, batch = session.tables.stage, request.batch
    base = table.snapshot()
    if base.txns.get(session.app_id, 0) >= batch.number:
        # Where no lock reaches: the plan was made before the other pass staged; put-if-absent covers the time after.
        raise CommitConflictError(
            f"another pass has staged batch {batch.number} meanwhile", hint="nothing was written; run again"
        )
    prefix = f"b{batch.number:06d}"
    written: list[Path] = []

    def new_path(kind: str) -> Path:
        written.append(table.new_path(f"{prefix}-{kind}"))
        return written[-1]

    try:
        _sweep(session, batch.number)
        job = ParseJob(
            session.con,
            session.config.contract,
            max_reject_share=session.config.max_reject_share,
            open_file=request.open_file,
            unchanged=request.unchanged,
            extra=_extra_columns(batch),
            new_path=new_path,
            pool=session.pool,
        )
        parsed = job.run([c for c in request.candidates if c.number not in request.duplicates])
        before = [c for c in request.candidates if c.number in request.duplicates]
        changed = [c for c in before if not request.unchanged(c)]
        files = [*parsed.files, *(_duplicate(c, request.duplicates[c.number]) for c in before if c not in changed)]
        files.sort(key=lambda file: file.candidate.number)
        gone = (*parsed.changed, *changed)
        if not files:
            return Staged(batch, gone)
        manifests = tuple(_manifest(file, batch) for file in files)
        whole = Batch(batch.number, batch.run_id, batch.clock, manifests)
        add = [table.added(path, rows, {ROWS_TAG: str(rows)}) for path, rows in parsed.rows]
        add += _rejects(session, whole, parsed.rejects, new_path)
        add.append(_deliveries(session, whole, files, new_path))
    except OSError as error:
        raise storage_error(error, table.root) from error
    session.probe("stage.files")
    info: dict[str, Json] = {"deliveries": len(manifests), "run_id": batch.run_id}
    change = Change(session.txn(batch), "STAGE", add, list(base.files.values()), info)
    version = table.commit(base, change)
    session.probe("stage.committed")
    table.checkpoint_if_due(version)
    return Staged(whole, gone)


def read_staged(session: Session) -> Batch:
    """See `Engine.staged`."""
    snapshot = session.tables.stage.snapshot()
    relation = scan_sql(session.con, snapshot, stage_columns(session.config.contract))
    rows = session.run(f"SELECT _manifest FROM {relation} WHERE _kind = 'delivery' ORDER BY _delivery_no")
    if not rows:
        raise TableError("the stage holds no delivery", hint="restore orders_stage to the version of its last txn")
    found = [from_json(str(row[0])) for row in rows]
    _, run_id, clock = found[0]
    number = snapshot.txns[session.app_id]
    return Batch(number, run_id, clock, tuple(manifest for manifest, _, _ in found))


def _extra_columns(batch: Batch) -> list[tuple[str, str]]:
    """Columns of every staged row beside the kernel's: where it is from, and its audit columns if it is inserted."""
    clock = clock_sql(batch.clock)
    return [
        ("_kind", "CAST('row' AS ENUM('row'))"),
        ("_vendor", "vendor"),
        ("_delivery_id", "delivery_id"),
        ("_file_name", "file_name"),
        ("_batch", f"CAST({batch.number} AS BIGINT)"),
        ("_inserted_at", clock),
        ("_updated_at", clock),
        ("_revision", "CAST(1 AS BIGINT)"),
        ("_outcome", "CAST('inserted' AS ENUM('inserted'))"),
        ("_loaded_at", clock),
    ]


def _duplicate(candidate: Candidate, of: LoadedFile) -> ParsedFile:
    reason = f"the same bytes as {of.clean_path}, loaded as {of.delivery_id}"
    return ParsedFile(candidate, State.DUPLICATE, reason, (), of.rows_parsed, 0, of.rows_parsed)


def _manifest(file: ParsedFile, batch: Batch) -> Manifest:
    candidate = file.candidate
    name = candidate.path.rpartition("/")[2]
    return Manifest(
        delivery_id=candidate.delivery_id,
        vendor=candidate.vendor.name,
        path=candidate.path,
        file_name=candidate.clean_path.rpartition("/")[2],
        identity=candidate.identity,
        sha256=candidate.sha256,
        file_key=candidate.file_key,
        contract_hash=candidate.contract_hash,
        state=file.state,
        reason=file.reason,
        archive_path=archive_path(candidate.delivery_id, name, batch.clock, file.state),
        absent=file.absent,
        rows_parsed=file.parsed,
        rows_rejected=file.rejected,
        rows_duplicate=file.duplicate,
        first_error=file.first_error,
        discovered_at=batch.clock,
    )


def _rejects(session: Session, batch: Batch, parts: Sequence[Path], new_path: NewPath) -> list[AddFile]:
    """The rejects of the batch as one stage file: the kernel's parts, with the names that the table has."""
    if not parts:
        return []
    path = new_path("rejects-all")
    headers = pa.table(
        {
            "d": pa.array([delivery_number(m.delivery_id) for m in batch.manifests], pa.int32()),
            "_vendor": [m.vendor for m in batch.manifests],
            "_delivery_id": [m.delivery_id for m in batch.manifests],
            "_file_name": [m.file_name for m in batch.manifests],
        }
    )
    session.con.register("reject_headers", headers)
    listed = ", ".join(quoted(str(part)) for part in parts)
    rows = session.copy(
        "SELECT 'reject' AS _kind, _vendor, _delivery_id, _file_name, _file_row, _raw, _errors, d AS _delivery_no "
        f"FROM read_parquet([{listed}]) JOIN reject_headers USING (d)",
        path,
    )
    session.con.unregister("reject_headers")
    for part in parts:
        part.unlink()
    return [session.tables.stage.added(path, rows)]


def _deliveries(session: Session, batch: Batch, files: Sequence[ParsedFile], new_path: NewPath) -> AddFile:
    """The header rows, one a delivery, and a reject for each file that is rejected as a whole."""
    rows: list[dict[str, object]] = []
    for manifest, file in zip(batch.manifests, files, strict=True):
        row = {
            "_kind": "delivery",
            "_vendor": manifest.vendor,
            "_delivery_id": manifest.delivery_id,
            "_file_name": manifest.file_name,
            "_delivery_no": delivery_number(manifest.delivery_id),
        }
        rows.append({**row, "_manifest": to_json(manifest, batch.run_id, batch.clock)})
        if (reject := file.reject) is not None:
            error = {"column": reject.column, "value": None, "rule": reject.rule, "reason": reject.reason}
            rows.append({**row, "_kind": "reject", "_errors": json.dumps([error], ensure_ascii=False)})
    path = new_path("deliveries")
    texts = ("_kind", "_vendor", "_delivery_id", "_file_name", "_errors", "_manifest")
    schema = pa.schema([(name, pa.string()) for name in texts] + [("_delivery_no", pa.int32())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return session.tables.stage.added(path, len(rows))


def _sweep(session: Session, batch: int) -> None:
    """Delete what older batches left in the stage's folder; the last two batches' files stay for slow readers."""
    table = session.tables.stage
    live = {path.name for path in table.snapshot().paths}
    for path in table.root.glob("b*.parquet"):
        number = path.name[1:].partition("-")[0]
        if number.isdigit() and int(number) < batch - 1 and path.name not in live:
            path.unlink(missing_ok=True)
