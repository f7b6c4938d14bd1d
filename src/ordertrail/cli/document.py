"""The JSON documents of the commands to begin with and of those that keep the tables in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import asdict

from ordertrail.look.document import row, run_report, track
from ordertrail.look.rows import Json

if TYPE_CHECKING:
    from ordertrail.begin.demo import Demo
    from ordertrail.begin.doctor import DoctorReport, Finding
    from ordertrail.begin.init import Started
    from ordertrail.config import Config
    from ordertrail.keep.backup import BackupReport
    from ordertrail.keep.maintain import MaintenanceReport, StepDone
    from ordertrail.keep.rebuild import RebuildReport
    from ordertrail.keep.restore import RestoreReport
    from ordertrail.mend.preview import Preview


def preview(found: Preview) -> Json:
    """A correction with `--plan`: the report that it would give, and the first shipments that would change."""
    changes: list[Json] = [
        {
            "key": row(one.key),
            "change": one.change,
            "before": None if one.before is None else row(one.before),
            "after": None if one.after is None else row(one.after),
        }
        for one in found.changes
    ]
    said = run_report(found.report)
    assert isinstance(said, dict)
    return {**said, "changes": changes}


def rebuild(report: RebuildReport) -> Json:
    """`rebuild`; `version` is null in a dry run; `differences` is null in a real run or without a target to compare.

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
        "written": report.written,
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


def backup(report: BackupReport) -> Json:
    """`backup`."""
    return {**asdict(report), "folder": str(report.folder)}


def restore(report: RestoreReport) -> Json:
    """`restore`; `path` of a file is null where no table says it."""
    aside = None if report.aside is None else str(report.aside)
    unknown: list[Json] = [asdict(one) for one in report.unknown]
    return {**asdict(report), "folder": str(report.folder), "aside": aside, "unknown": unknown}


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
    from ordertrail.keep.maintain import describe, word

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
        "deliveries": [row(one) for one in found.deliveries.dicts()],
        "rejects": [row(one) for one in found.rejects.dicts()],
        "track": track(found.track),
    }
