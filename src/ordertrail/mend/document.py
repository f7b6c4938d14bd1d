"""The JSON document of a migration. Its shape is a contract, see the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import asdict

from ordertrail.look.rows import Json

if TYPE_CHECKING:
    from ordertrail.mend.migration import MigrationReport


def migration(report: MigrationReport) -> Json:
    """`migrate`; `batch` is null when nothing was done, or only columns were added."""
    return {
        "pipeline": report.pipeline,
        "steps": [
            {
                "step": one.kind,
                "table": one.table,
                "column": one.column or None,
                "from": one.before,
                "to": one.after,
                "rows": one.rows,
                "unfit": one.unfit,
                "by_itself": one.by_itself,
            }
            for one in report.steps
        ],
        "unfit": [asdict(one) for one in report.unfit],
        "problems": list(report.problems),
        "notes": list(report.notes),
        "applied": report.applied,
        "batch": report.batch,
        "heals": [asdict(one) for one in report.heals],
        "replay_batch": report.replay_batch,
        "seconds": report.seconds,
    }
