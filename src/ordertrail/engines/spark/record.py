"""Record on Spark: history, rejects and, last, deliveries, the done mark. Each is one commit with the batch's `txn`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from ordertrail.engines.batch_rows import delivery_rows, has_rejects
from ordertrail.engines.local.session import batch_txn
from ordertrail.engines.spark.load import Load
from ordertrail.engines.spark.work import SparkPass, arrow_schema_of
from ordertrail.model import Batch, RowCounts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ordertrail.engines.spark.tables import SparkTable


def record_batch(run: SparkPass, load: Load, counts: Mapping[str, RowCounts]) -> None:
    """See `Engine.record`."""
    batch, tables = load.batch, run.tables
    if _due(run, batch, tables.history):
        _append(run, batch, tables.history, load.weighing.history(), "history")
    if _due(run, batch, tables.rejects):
        rejects = load.weighing.rejects() if has_rejects(batch) else None
        _append(run, batch, tables.rejects, rejects, "rejects")
    if _due(run, batch, tables.deliveries):
        rows = run.frame(delivery_rows(batch, counts), tables.deliveries.columns)
        _append(run, batch, tables.deliveries, rows, "deliveries")
        run.deliveries_changed()


def mark_archived(run: SparkPass, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
    """See `Engine.archived`. The mark is a `txn` of the deliveries table under an application id of its own."""
    table = run.tables.deliveries
    if table.standing(run.archive_id, in_rows=False)[1] >= batch.number:
        if elsewhere:
            # Without a `txn`: Delta would take the number for a commit that is repeated, and write nothing.
            _amend(run, table, elsewhere)
        return
    with run.commit(batch, "ARCHIVE", run.archive_id):
        if elsewhere:
            _amend(run, table, elsewhere)
        else:
            _mark(run, table, batch, run.archive_id, "ARCHIVE")
    run.probe("archived.committed")


def _amend(run: SparkPass, table: SparkTable, elsewhere: Mapping[str, str | None]) -> None:
    columns = {
        "delivery_id": pa.array(list(elsewhere), pa.string()),
        "archived_to": pa.array(list(elsewhere.values()), pa.string()),
    }
    moved = run.spark.createDataFrame(pa.table(columns), schema="delivery_id STRING, archived_to STRING")
    run.spark.sql(
        f"MERGE INTO {table.sql_name} t USING {run.view(moved)} s ON t.delivery_id = s.delivery_id "
        "WHEN MATCHED THEN UPDATE SET t.archived_to = s.archived_to"
    ).collect()


def _mark(run: SparkPass, table: SparkTable, batch: Batch, app_id: str, operation: str) -> None:
    nothing = run.frame(arrow_schema_of(table.columns).empty_table(), table.columns)
    table.mark(nothing, batch_txn(app_id, batch), operation)


def _due(run: SparkPass, batch: Batch, table: SparkTable) -> bool:
    return table.standing(run.app_id)[1] < batch.number


def _append(run: SparkPass, batch: Batch, table: SparkTable, rows: DataFrame | None, name: str) -> None:
    run.probe(f"{name}.files")
    with run.commit(batch, name.upper()):
        if rows is None:
            _mark(run, table, batch, run.app_id, name.upper())
        else:
            table.append(rows)
    run.probe(f"{name}.committed")
