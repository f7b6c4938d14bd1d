"""The JSON documents: one function a result. Their shape is a contract, see the reference."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ordertrail.cli.screen import Json
from ordertrail.rows import Row, Rows, json_value

if TYPE_CHECKING:
    from ordertrail.cli.showcase import Demo
    from ordertrail.cli.starting import Started
    from ordertrail.config import Config
    from ordertrail.doctor import DoctorReport, Finding
    from ordertrail.engines.spark_adopt import Adopted
    from ordertrail.maintain import MaintenanceReport, StepDone
    from ordertrail.model import DeliveryReport, RunReport
    from ordertrail.preview import PlannedFile, PlanReport
    from ordertrail.rebuild import RebuildReport
    from ordertrail.status import Status, Track
    from ordertrail.verify import VerifyReport


def run_report(report: RunReport) -> Json:
    """`run`, `stage`, `load`; a line of `watch`."""
    return {
        "pipeline": report.pipeline,
        "engine": report.engine,
        "batch": report.batch,
        "recovered": report.recovered,
        "rows": asdict(report.rows),
        "deliveries": [_delivery(one) for one in report.deliveries],
        "skipped": [
            {"file_name": one.file_name, "reason": one.reason, "since": json_value(one.since)} for one in report.skipped
        ],
        "warnings": list(report.warnings),
        "seconds": dict(report.seconds),
        "notes": list(report.notes),
    }


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
        "rows": asdict(one.rows),
    }


def rows(found: Rows) -> Json:
    """`query`, `deliveries`, `rejects`; `cut` says that there are more."""
    return {"rows": [_row(one) for one in found.dicts()], "cut": found.cut}


def _row(one: Row) -> Json:
    return {name: json_value(cell) for name, cell in one.items()}


def status(found: Status) -> Json:
    """`status`: the object's own fields."""
    waiting = [{**asdict(one), "since": json_value(one.since)} for one in found.waiting]
    return {**asdict(found), "last_loaded_at": json_value(found.last_loaded_at), "waiting": waiting}


def track(found: Track) -> Json:
    """`track`."""
    return {
        "tracking_num": found.key,
        "current": None if found.current is None else _row(found.current),
        "history": [_row(one) for one in found.history],
        "rejected": [_row(one) for one in found.rejected],
    }


def plan(report: PlanReport) -> Json:
    """`plan`."""
    return {
        "batch": report.batch,
        "rows": asdict(report.rows),
        "files": [_planned(one) for one in report.files],
        "notes": list(report.notes),
    }


def _planned(one: PlannedFile) -> Json:
    return {
        "path": one.path,
        "vendor": one.vendor,
        "state": None if one.state is None else str(one.state),
        "reason": one.reason,
        "rows": asdict(one.rows),
        "rejects": [asdict(reject) for reject in one.rejects],
    }


def verify(report: VerifyReport) -> Json:
    """`verify`."""
    checks: list[Json] = [{"name": c.name, "ok": c.ok, "detail": c.detail, "hint": c.hint} for c in report.checks]
    return {"ok": report.ok, "checks": checks}


def rebuild(report: RebuildReport) -> Json:
    """`rebuild`; `version` is null in a dry run, `differences` otherwise, and where there is no target to compare.

    `history` is null without `--history-from-archive`.
    """
    found = report.differences
    history = report.history
    return {
        "pipeline": report.pipeline,
        "dry_run": report.dry_run,
        "batch": report.batch,
        "history_rows": report.history_rows,
        "rows": report.rows,
        "files": report.files,
        "version": report.version,
        "created": report.created,
        "differences": None if found is None else {**asdict(found), "total": found.total},
        "notes": list(report.notes),
        "warnings": list(report.warnings),
        "seconds": report.seconds,
        "history": None
        if history is None
        else {
            "deliveries_read": history.deliveries_read,
            "deliveries_kept": history.deliveries_kept,
            "history_rows": history.history_rows,
            "rejects_rows": history.rejects_rows,
        },
    }


def adopt(found: Adopted) -> Json:
    """`adopt`."""
    return {"table": found.table, "rows": found.rows, "columns_added": list(found.columns_added)}


def maintain(report: MaintenanceReport) -> Json:
    """`maintain`; in a dry run no step is done."""
    return {
        "pipeline": report.pipeline,
        "dry_run": report.dry_run,
        "steps": [_step(one) for one in report.steps],
        "warnings": list(report.warnings),
        "seconds": report.seconds,
    }


def _step(one: StepDone) -> Json:
    from ordertrail.maintain import describe, word

    return {
        "step": word(one.step),
        "table": one.step.table,
        "what": describe(one.step),
        "done": one.done,
        "note": one.note or None,
        "seconds": one.seconds,
    }


def doctor(report: DoctorReport) -> Json:
    """`doctor`."""
    return {"ok": report.ok, "checks": [_finding(one) for one in report.findings]}


def _finding(one: Finding) -> Json:
    return {"name": one.name, "health": one.health, "detail": one.detail, "hint": one.hint}


def again(config: Config) -> Json:
    """`init --anew`."""
    folders = {name: str(getattr(config, name)) for name in ("source", "archive", "warehouse")}
    return {"pipeline": config.name, **folders, "anew": True}


def started(found: Started) -> Json:
    """`init`."""
    config = found.config
    return {
        "config": str(found.file),
        "source": str(config.source),
        "archive": str(config.archive),
        "warehouse": str(config.warehouse),
        "sample": None if found.sample is None else str(found.sample),
        "key": list(config.contract.key),
        "order_by": config.contract.order_by,
        "columns": [{"name": one.name, "type": one.type} for one in config.contract.columns],
        "notes": list(found.notes),
    }


def demo(found: Demo) -> Json:
    """`demo`."""
    return {
        "folder": str(found.folder),
        "passes": [run_report(one) for one in found.reports],
        "deliveries": [_row(one) for one in found.deliveries.dicts()],
        "rejects": [_row(one) for one in found.rejects.dicts()],
        "track": track(found.track),
    }
