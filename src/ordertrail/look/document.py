"""The JSON documents of passes and of the commands that look. Their shape is a contract, see the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from ordertrail.look.rows import Json, Row, Rows, json_value

if TYPE_CHECKING:
    from ordertrail.engines.spark.adopt import Adopted
    from ordertrail.look.arrivals import Arrivals
    from ordertrail.look.export import Exported
    from ordertrail.look.open_items import OpenItem
    from ordertrail.look.plan import PlannedFile, PlanReport
    from ordertrail.look.status import Status
    from ordertrail.look.track import Match, Track
    from ordertrail.look.verify import VerifyReport
    from ordertrail.model import CorrectionReport, DeliveryReport, RowCounts, RunReport
    from ordertrail.rules.incidents import Incident


def run_report(report: RunReport) -> Json:
    """`run`, `stage`, `load`; a line of `watch`; with `correction`, the commands that mend."""
    corrected = {} if report.correction is None else {"correction": correction(report.correction)}
    return {
        "pipeline": report.pipeline,
        "engine": report.engine,
        "batch": report.batch,
        "recovered": report.recovered,
        "rows": _counts(report.rows),
        "deliveries": [_delivery(one) for one in report.deliveries],
        "skipped": [
            {"file_name": one.file_name, "reason": one.reason, "since": json_value(one.since)} for one in report.skipped
        ],
        "warnings": list(report.warnings),
        "seconds": dict(report.seconds),
        "notes": list(report.notes),
        "added_columns": list(report.added_columns),
        **corrected,
    }


def correction(done: CorrectionReport) -> Json:
    """What a correction did, or would do."""
    return {
        "kind": str(done.correction.kind),
        "of": list(done.correction.of),
        "why": done.correction.why,
        "by": done.correction.by,
        "keys": {"touched": done.touched, "restored": done.restored, "kept": done.kept, "removed": done.removed},
    }


def _counts(found: RowCounts) -> Json:
    """Rows by outcome: files have no `removed` ones."""
    return {name: count for name, count in asdict(found).items() if name != "removed"}


def _delivery(one: DeliveryReport) -> Json:
    return {
        "delivery_id": one.delivery_id,
        "vendor": one.vendor,
        "file_name": one.file_name,
        "sha256": one.sha256,
        "size_bytes": one.size_bytes,
        "state": str(one.state),
        "reason": one.reason,
        "archived_to": one.archived_to,
        "rows": _counts(one.rows),
    }


def rows(found: Rows) -> Json:
    """`query`, `deliveries`, `rejects`; `cut` says that there are more."""
    return {"rows": [row(one) for one in found.dicts()], "cut": found.cut}


def row(one: Row) -> Json:
    """One row of a table."""
    return {name: json_value(cell) for name, cell in one.items()}


def status(found: Status) -> Json:
    """`status`: the object's own fields, but for what only the next look needs."""
    return {
        **{name: value for name, value in asdict(found).items() if name != "quiet"},
        "last_loaded_at": json_value(found.last_loaded_at),
        "waiting": [{**asdict(one), "since": json_value(one.since)} for one in found.waiting],
        "open_items": [open_item(one) for one in found.open_items],
        "quarantined_recent": [asdict(one) for one in found.quarantined_recent],
        "debt": asdict(found.debt),
    }


def health(items: Sequence[OpenItem]) -> Json:
    """`health`."""
    return {"healthy": not items, "items": [open_item(one) for one in items]}


def open_item(one: OpenItem) -> Json:
    """An open item, wherever it is listed; `since` is null when nothing tells."""
    return {**asdict(one), "since": json_value(one.since)}


def incident(one: Incident) -> dict[str, Json]:
    """An incident; whom the alerts reach is nobody's business who only reads."""
    return {
        "incident_id": one.incident_id,
        "key": one.key,
        "kind": one.kind,
        "severity": one.severity,
        "vendor": one.vendor,
        "text": one.text,
        "next": one.next,
        "rows": one.rows,
        "shipments": one.shipments,
        "since": json_value(one.since),
        "opened_at": json_value(one.opened_at),
        "seen_at": json_value(one.seen_at),
        "count": one.count,
        "closed_at": json_value(one.closed_at),
        "acknowledged_at": json_value(one.acknowledged_at),
        "acknowledged_by": one.acknowledged_by,
        "acknowledged_why": one.acknowledged_why,
        "reminded": one.reminded,
        "remind_at": json_value(one.remind_at),
    }


def arrivals(found: Sequence[Arrivals]) -> Json:
    """What came of each vendor; `day` is a date of the vendor's `timezone`, all times are UTC."""
    return {"vendors": [_arrivals(one) for one in found]}


def _arrivals(one: Arrivals) -> Json:
    times = ("next_expected", "late_from", "late_since", "last_at")
    days = [
        {"day": day.day.isoformat(), "state": day.state, "files": day.files}
        | {"first": json_value(day.first), "last": json_value(day.last)}
        for day in one.days
    ]
    return {**asdict(one), **{name: json_value(getattr(one, name)) for name in times}, "days": days}


def track(found: Track) -> Json:
    """`track`."""
    return {
        "tracking_num": found.key,
        "current": None if found.current is None else row(found.current),
        "history": [row(one) for one in found.history],
        "rejected": [row(one) for one in found.rejected],
        "matches": [row(_match(one)) for one in found.matches],
        "more": found.more,
        "as_of": None if found.as_of is None else {"batch": found.as_of.batch, "at": json_value(found.as_of.at)},
    }


def _match(one: Match) -> Row:
    return {
        "tracking_num": one.key,
        "found_by": one.found_by,
        "vendor": one.vendor,
        "status": one.status,
        "time": one.time,
    }


def exported(found: Exported) -> Json:
    """`export`; `path` as it was given, `batch` null without `--as-of`."""
    return {
        "table": found.table,
        "rows": found.rows,
        "batch": found.batch,
        "path": str(found.path),
        "bytes": found.size_bytes,
    }


def plan(report: PlanReport) -> Json:
    """`plan`."""
    return {
        "batch": report.batch,
        "rows": _counts(report.rows),
        "files": [_planned(one) for one in report.files],
        "notes": list(report.notes),
        "added_columns": list(report.added_columns),
    }


def _planned(one: PlannedFile) -> Json:
    return {
        "path": one.path,
        "vendor": one.vendor,
        "state": None if one.state is None else str(one.state),
        "reason": one.reason,
        "rows": _counts(one.rows),
        "rejects": [asdict(reject) for reject in one.rejects],
        "mapped": list(one.mapped),
        "samples": [{"file_row": each.file_row, "raw": each.raw, "row": row(each.row)} for each in one.samples],
    }


def verify(report: VerifyReport) -> Json:
    """`verify`."""
    checks: list[Json] = [{"name": c.name, "ok": c.ok, "detail": c.detail, "hint": c.hint} for c in report.checks]
    return {"ok": report.ok, "checks": checks}


def adopted(found: Adopted) -> Json:
    """`adopt`; `problems` are those of a dry run, `before` is the version to go back to."""
    return {
        "table": found.table,
        "adopted": found.adopted,
        "rows": found.rows,
        "columns_added": list(found.columns_added),
        "doubled": {**asdict(found.doubled), "examples": list(found.doubled.examples)},
        "problems": [{"problem": one.message, "hint": one.hint} for one in found.problems],
        "before": found.before,
        "back": list(found.back),
        "compare": found.compare,
    }
