"""What a correction would do, without doing it: `--plan`.

It is judged, staged and weighed as always, but the stage is in a temporary folder, and nothing is applied.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.engines.choice import placed
from ordertrail.look.dry_run import Changed, open_dry_run
from ordertrail.markers import no_tables_yet, refuse_lost_tables
from ordertrail.mend.corrections import Asking, Wanted
from ordertrail.model import Batch, CorrectionReport, DeliveryReport, RowCounts, RunReport
from ordertrail.rules.reports import correction_report, delivery_report

SHOWN = 10
"""How many changed shipments a preview shows."""


class Preview(Struct, frozen=True):
    """What a correction would do now.

    Attributes:
        report: As the correction would report it, without a batch.
        changes: The first `SHOWN` shipments that would change, in the order of their keys.
    """

    report: RunReport
    changes: tuple[Changed, ...]

    @property
    def correction(self) -> CorrectionReport:
        """What it would do to the target."""
        assert self.report.correction is not None
        return self.report.correction


def preview(config: Config, wanted: Wanted) -> Preview:
    """Say what a correction would do; writes nothing below source, archive and warehouse.

    Args:
        config: The pipeline's.
        wanted: The correction.

    Raises:
        UsageError: It is not possible; or only Spark reads the tables.
        TableError: There are no tables yet, or one is damaged.
    """
    config = placed(config)
    refuse_lost_tables(config)
    asking = Asking(config, wanted, dry=True)
    with tempfile.TemporaryDirectory(prefix="ordertrail-plan-") as folder:
        (Path(folder) / "spill").mkdir()
        with open_dry_run(config, Path(folder)) as dry_run:
            if not dry_run.ledger.done:
                raise no_tables_yet(config)
            batch = Batch(dry_run.ledger.highest + 1, "plan", datetime.now(UTC), ())
            request = asking(batch, dry_run)
            brought = dry_run.widen(request)
            found = dry_run.correct(request, SHOWN)
    manifest = found.batch.corrects
    assert manifest is not None
    deliveries = [delivery_report(one, found.counts[one.delivery_id], None) for one in found.batch.files]
    report = RunReport(
        pipeline=config.name,
        engine=config.engine,
        batch=None,
        recovered=False,
        rows=_total(deliveries),
        deliveries=tuple(deliveries),
        skipped=(),
        warnings=tuple(asking.left),
        correction=correction_report(manifest, found.counts[manifest.delivery_id], appends=config.appends),
        notes=brought.notes,
        added_columns=brought.names,
    )
    return Preview(report, found.changes)


def _total(deliveries: Sequence[DeliveryReport]) -> RowCounts:
    return sum((one.rows for one in deliveries), RowCounts())
