"""Rows of a batch that all engines write alike: headers and rejects of the stage, deliveries, and their counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from msgspec.structs import replace

from ordertrail.arrow import arrow_schema, epochs_us
from ordertrail.engines.base import StageRequest
from ordertrail.errors import BalanceError
from ordertrail.model import (
    SET_ASIDE,
    Batch,
    Correction,
    FileIdentity,
    Manifest,
    Outcome,
    RowCounts,
    State,
)
from ordertrail.parse.job import ParsedFile
from ordertrail.rules.accepted import ACCEPTED_OUTCOMES
from ordertrail.rules.bounds import MAX_REASON_CHARS, cut
from ordertrail.rules.corrections import AFTER, IN_HISTORY, Known, correction_text
from ordertrail.rules.doubts import doubts_json
from ordertrail.rules.filekey import archive_path, clean_name
from ordertrail.rules.manifests import from_json, to_json
from ordertrail.rules.planning import Candidate, LoadedFile, delivery_number
from ordertrail.rules.planning import delivery_id as new_id
from ordertrail.rules.sql import quoted
from ordertrail.rules.tables import DELIVERIES

ERRORS_SHAPE = '[{"column": "VARCHAR", "value": "VARCHAR", "rule": "VARCHAR", "reason": "VARCHAR"}]'
"""The structure of `orders_stage._errors`, for DuckDB's `from_json`."""

STAGED_COLUMNS = (
    ("_kind", "CAST('row' AS ENUM('row'))"),
    ("_vendor", "vendor"),
    ("_delivery_id", "delivery_id"),
    ("_file_name", "file_name"),
)
"""(name, SQL) of the columns of a staged row besides the kernel's."""


# --- the stage -----------------------------------------------------------------------------------------------------


def duplicate_file(candidate: Candidate, of: LoadedFile) -> ParsedFile:
    """The result for a file whose bytes were loaded before: it is not parsed."""
    reason = f"the same bytes as {of.clean_path}, loaded as {of.delivery_id}"
    return ParsedFile(candidate, State.DUPLICATE, reason, (), of.rows_parsed, 0, of.rows_parsed)


def held_file(candidate: Candidate, reason: str) -> ParsedFile:
    """The result for a file that a person must decide about: it is not parsed."""
    return ParsedFile(candidate, State.HELD, reason)


def decided(request: StageRequest, parsed: Sequence[ParsedFile]) -> tuple[list[ParsedFile], list[Candidate]]:
    """All files of a request that can be staged, in the order of their numbers, and those that changed meanwhile.

    Args:
        request: What to stage.
        parsed: The files that were parsed.
    """
    rest = [c for c in request.candidates if c.number in request.duplicates or c.number in request.held]
    changed = [c for c in rest if not request.unchanged(c)]
    files = [*parsed]
    for one in rest:
        if one in changed:
            continue
        reason = request.held.get(one.number)
        files.append(duplicate_file(one, request.duplicates[one.number]) if reason is None else held_file(one, reason))
    files.sort(key=lambda file: file.candidate.number)
    return files, changed


def manifests_of(request: StageRequest, files: Sequence[ParsedFile]) -> tuple[Manifest, ...]:
    """The manifests of a batch: one a file and, last, that of the correction that it is, if it is one."""
    found = [manifest_of(file, request.batch, request.route) for file in files]
    if request.correction is not None:
        number = 1 + max((file.candidate.number for file in files), default=-1)
        correction = request.correction
        if files:  # what could not be loaded stays as it was
            correction = replace(correction, of=tuple(file.candidate.replaces for file in files))
        found.append(_correction_manifest(correction, request.batch, number, request.route))
    return tuple(found)


def _correction_manifest(correction: Correction, batch: Batch, number: int, route: str) -> Manifest:
    words = f"{correction.kind} of {', '.join(correction.of)}"
    manifest = decision_manifest(batch, number, words, State.CORRECTION, f"{words}: {correction.why}")
    return replace(manifest, route=route, correction=correction)


def decision_manifest(batch: Batch, number: int, words: str, state: State, reason: str) -> Manifest:
    """The manifest of a decision of a person, which a batch carries out and which has no file.

    Args:
        batch: Number and clock.
        number: Its place in the batch.
        words: What its id is made of.
        state: `correction` or `migration`.
        reason: What is done and why; it is cut to its bound.
    """
    nothing = FileIdentity(0, 0, 0, 0, 0)
    return Manifest(
        delivery_id=new_id(batch.number, number, words, nothing),
        vendor="",
        path="",
        file_name="",
        identity=nothing,
        sha256="",
        file_key=0,
        contract_hash="",
        state=state,
        reason=cut(reason, MAX_REASON_CHARS),
        archive_path="",
        absent=(),
        rows_parsed=0,
        rows_rejected=0,
        rows_duplicate=0,
        first_error=None,
        discovered_at=batch.clock,
        archived=True,
    )


def manifest_of(file: ParsedFile, batch: Batch, route: str) -> Manifest:
    """The manifest of a delivery: everything that was decided about it.

    Args:
        file: The parsed file.
        batch: Number, run id and clock.
        route: See `StageRequest.route`.
    """
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
        archive_path=candidate.archived_to or archive_path(candidate.delivery_id, name, batch.clock, file.state),
        absent=file.absent,
        rows_parsed=file.parsed,
        rows_rejected=file.rejected,
        rows_duplicate=file.duplicate,
        first_error=file.first_error,
        discovered_at=batch.clock,
        rescued=file.rescued,
        unranked=file.unranked,
        lines_skipped=file.lines_skipped,
        doubts=file.doubts,
        mapped=file.mapped,
        newest_first=candidate.vendor.rows == "newest_first",
        route=route,
        replaces=candidate.replaces,
        archived=candidate.archived_to is not None,
        sender=None if candidate.archived_to is not None else candidate.sender,
    )


def staged_batch(number: int, manifests: Sequence[str]) -> Batch:
    """A batch from the texts of its manifests, in the order of its deliveries; there is at least one."""
    found = [from_json(text) for text in manifests]
    _, run_id, clock = found[0]
    return Batch(number, run_id, clock, tuple(manifest for manifest, _, _ in found))


def header_rows(batch: Batch, files: Sequence[ParsedFile | None]) -> pa.Table:
    """The header rows of the stage, one a delivery, and a reject for each file that is rejected as a whole.

    Args:
        batch: The batch with the manifests of `files`, in their order.
        files: The parsed files, without the correction; None for one that was not parsed.
    """
    rows: list[dict[str, object]] = []
    of_files = [*files, *([None] if batch.corrects is not None else [])]
    for manifest, file in zip(batch.manifests, of_files, strict=True):
        row = {
            "_kind": "delivery",
            "_vendor": manifest.vendor,
            "_delivery_id": manifest.delivery_id,
            "_file_name": manifest.file_name,
            "_delivery_no": delivery_number(manifest.delivery_id),
        }
        rows.append({**row, "_manifest": to_json(manifest, batch.run_id, batch.clock)})
        if file is not None and (reject := file.reject) is not None:
            error = {"column": reject.column, "value": None, "rule": reject.rule, "reason": reject.reason}
            rows.append({**row, "_kind": "reject", "_errors": json.dumps([error], ensure_ascii=False)})
    texts = ("_kind", "_vendor", "_delivery_id", "_file_name", "_errors", "_manifest")
    schema = pa.schema([(name, pa.string()) for name in texts] + [("_delivery_no", pa.int32())])
    return pa.Table.from_pylist(rows, schema=schema)


def reject_headers(batch: Batch) -> pa.Table:
    """The values that `reject_rows_sql` adds to the rejects of a delivery, as relation `reject_headers`."""
    return pa.table(
        {
            "d": pa.array([delivery_number(m.delivery_id) for m in batch.manifests], pa.int32()),
            "_vendor": [m.vendor for m in batch.manifests],
            "_delivery_id": [m.delivery_id for m in batch.manifests],
            "_file_name": [m.file_name for m in batch.manifests],
        }
    )


def reject_rows_sql(parts: Sequence[Path]) -> str:
    """DuckDB SQL of the rejects of the stage, from the kernel's Parquet files."""
    listed = ", ".join(quoted(str(part)) for part in parts)
    return (
        "SELECT 'reject' AS _kind, _vendor, _delivery_id, _file_name, _file_row, _raw, _errors, d AS _delivery_no, "
        f"_file_line FROM read_parquet([{listed}]) JOIN reject_headers USING (d)"
    )


# --- the rejects table ---------------------------------------------------------------------------------------------


def has_rejects(batch: Batch) -> bool:
    """Whether any row or file of a batch is rejected."""
    return any(manifest.rows_rejected or manifest.state in SET_ASIDE for manifest in batch.manifests)


def rejects_sql(batch: Batch, staged: str, clock: str) -> str:
    """DuckDB SQL of a batch's rows of `orders_rejects`: one for each error.

    Args:
        batch: The batch; only its number is used.
        staged: SQL of a relation with rows of the stage.
        clock: SQL of the batch's clock.
    """
    return (
        'SELECT vendor, delivery_id, file_name, file_row, e."column", e."value", e."rule", e.reason, raw, '
        f"CAST({batch.number} AS BIGINT) AS batch, {clock} AS rejected_at, file_line FROM (SELECT _vendor AS vendor, "
        "_delivery_id AS delivery_id, _file_name AS file_name, _file_row AS file_row, _file_line AS file_line, "
        f"_raw AS raw, unnest(from_json(_errors, '{ERRORS_SHAPE}')) AS e FROM {staged} WHERE _kind = 'reject')"
    )


# --- the deliveries table, and counting ----------------------------------------------------------------------------


def delivery_rows(batch: Batch, counts: Mapping[str, RowCounts]) -> pa.Table:
    """A batch's rows of `orders_deliveries`."""
    rows = [_delivery_row(manifest, batch, counts[manifest.delivery_id]) for manifest in batch.manifests]
    return pa.Table.from_pylist(rows, schema=arrow_schema((column.name, column.type) for column in DELIVERIES))


def known_deliveries(rows: pa.Table) -> tuple[Known, ...]:
    """The deliveries as corrections see them, in the order of their ids.

    Args:
        rows: All rows of `orders_deliveries`.
    """
    names = ("delivery_id", "vendor", "file_name", "path", "sha256", "size_bytes", "state", "archived_to",
             "replayed_by", "changed_by", "changed_why", "correction")  # fmt: skip
    times_us = epochs_us(rows["modified_at"])
    accepted = rows.select([f"rows_{outcome}" for outcome in ACCEPTED_OUTCOMES]).to_pylist()
    found = []
    for row, time_us, counts in zip(rows.select(names).to_pylist(), times_us, accepted, strict=True):
        state = State(row["state"])
        found.append(
            Known(
                delivery_id=row["delivery_id"],
                vendor=row["vendor"] or "",
                file_name=row["file_name"] or "",
                path=row["path"] or row["file_name"] or "",
                sha256=row["sha256"] or "",
                size_bytes=row["size_bytes"] or 0,
                mtime_us=time_us or 0,
                state=state,
                archived_to=row["archived_to"],
                rows_accepted=sum(n or 0 for n in counts.values()) if state in IN_HISTORY else 0,
                replayed_by=row["replayed_by"],
                changed_by=row["changed_by"],
                changed_why=row["changed_why"],
                correction=row["correction"],
            )
        )
    return tuple(sorted(found, key=lambda one: one.delivery_id))


def changed_deliveries(batch: Batch) -> pa.Table:
    """The deliveries whose state a correction changes, with their new state; no rows for an ordinary batch.

    The columns are `delivery_id` and those of `CHANGED_COLUMNS`.
    """
    manifest = batch.corrects
    correction = None if manifest is None else manifest.correction
    ids = [] if correction is None else list(correction.of)
    successors = {one.replaces: one.delivery_id for one in batch.files if one.replaces}
    return pa.table(
        {
            "delivery_id": pa.array(ids, pa.string()),
            "state": pa.array(["" if correction is None else str(AFTER[correction.kind]) for _ in ids], pa.string()),
            "changed_at": pa.array([batch.clock for _ in ids], pa.timestamp("us", "UTC")),
            "changed_by": pa.array([None if correction is None else correction.by for _ in ids], pa.string()),
            "changed_why": pa.array([None if correction is None else correction.why for _ in ids], pa.string()),
            "replayed_by": pa.array([successors.get(one) for one in ids], pa.string()),
        }
    )


CHANGED_COLUMNS = ("state", "changed_at", "changed_by", "changed_why", "replayed_by")
"""The columns of a delivery's row that a correction writes; nothing else of the row ever changes."""


def batch_deliveries(batch: Batch) -> pa.Table:
    """What the order rules want to know of a batch's deliveries: `KNOWN`, and `dn`, the place in the batch."""
    manifests = batch.files
    return pa.table(
        {
            "dn": pa.array([delivery_number(m.delivery_id) for m in manifests], pa.int32()),
            "delivery_id": pa.array([m.delivery_id for m in manifests], pa.string()),
            "fk": pa.array([m.file_key for m in manifests], pa.int64()),
            "vendor": pa.array([m.vendor for m in manifests], pa.string()),
            "path": pa.array([clean_name(m.path) for m in manifests], pa.string()),
            "mtime_ms": pa.array([m.identity.mtime_ns // 1_000_000 for m in manifests], pa.int64()),
            "sha256": pa.array([m.sha256 for m in manifests], pa.string()),
            "absent": pa.array([list(m.absent) for m in manifests], pa.list_(pa.string())),
            "batch": pa.array([batch.number] * len(manifests), pa.int64()),
            "newest_first": pa.array([m.newest_first for m in manifests], pa.bool_()),
        }
    )


def counted(batch: Batch, rows: Iterable[tuple[object, ...]]) -> dict[str, RowCounts]:
    """Rows by outcome, by delivery; a correction itself has no rows.

    Args:
        batch: As it was staged.
        rows: (delivery id, outcome, number of rows), of accepted rows.
    """
    found: dict[str, dict[Outcome, int]] = {}
    for delivery_id, outcome, count in rows:
        found.setdefault(str(delivery_id), {})[Outcome(str(outcome))] = int(str(count))
    return {m.delivery_id: row_counts(m, found.get(m.delivery_id, {})) for m in batch.files}


def row_counts(manifest: Manifest, found: Mapping[Outcome, int]) -> RowCounts:
    """The counts of a delivery, from its accepted rows by outcome."""
    rows = {str(outcome): count for outcome, count in found.items()}
    rows["rejected"] = manifest.rows_rejected
    rows["duplicate"] = rows.get("duplicate", 0) + manifest.rows_duplicate
    return RowCounts(parsed=manifest.rows_parsed, **rows)


def check_balance(counts: Mapping[str, RowCounts]) -> None:
    """Check P3 before anything is committed.

    Raises:
        BalanceError: The outcomes do not add up.
    """
    for delivery_id, rows in counts.items():
        if not rows.balanced:
            raise BalanceError(
                f"delivery {delivery_id} does not add up: {rows}",
                hint="nothing was committed; this is a bug in ordertrail, please report it with the file",
            )


def _decision_row(manifest: Manifest, batch: Batch, counts: Mapping[str, object]) -> dict[str, object]:
    """The ledger's row of a correction or a migration: it has no file; of a correction, keys by outcome."""
    row: dict[str, object] = {
        "delivery_id": manifest.delivery_id,
        "discovered_at": manifest.discovered_at,
        "batch": batch.number,
        "state": str(manifest.state),
        "reason": manifest.reason,
        **counts,
        "staged_at": batch.clock,
        "absent": "[]",
    }
    correction = manifest.correction
    if correction is None:
        return row
    said = {"changed_by": correction.by, "changed_why": correction.why, "correction": correction_text(correction)}
    return {**row, "changed_at": batch.clock, **said}


def _delivery_row(manifest: Manifest, batch: Batch, rows: RowCounts) -> dict[str, object]:
    counts = {"rows_parsed": rows.parsed, **{f"rows_{outcome}": getattr(rows, outcome) for outcome in Outcome}}
    if manifest.state in (State.CORRECTION, State.MIGRATION):
        return _decision_row(manifest, batch, counts)
    return {
        "delivery_id": manifest.delivery_id,
        "vendor": manifest.vendor,
        "file_name": manifest.file_name,
        "sha256": manifest.sha256,
        "size_bytes": manifest.identity.size_bytes,
        "modified_at": manifest.identity.mtime_ns // 1_000,
        "discovered_at": manifest.discovered_at,
        "batch": batch.number,
        "state": str(manifest.state),
        "reason": manifest.reason,
        **counts,
        "first_error": manifest.first_error,
        "archived_to": manifest.archive_path,
        "staged_at": batch.clock,
        "loaded_at": batch.clock if manifest.state is State.LOADED else None,
        "path": clean_name(manifest.path),
        "file_key": manifest.file_key,
        "contract_hash": manifest.contract_hash,
        "absent": json.dumps(list(manifest.absent)),
        "lines_skipped": manifest.lines_skipped,
        "doubts": doubts_json(manifest.doubts),
        "newest_first": manifest.newest_first,
    }
