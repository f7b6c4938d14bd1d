"""Record on Spark: history, rejects and, last, deliveries, the done mark. Each is one commit with the batch's `txn`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from ordertrail.engines.batch_rows import CHANGED_COLUMNS, changed_deliveries, counted, delivery_rows, has_rejects
from ordertrail.engines.local.session import batch_txn
from ordertrail.engines.spark.merge import Frames
from ordertrail.engines.spark.work import SparkPass, arrow_schema_of
from ordertrail.model import Batch, RowCounts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ordertrail.engines.spark.tables import SparkTable, Told


class CatalogRecorder:
    """`Recorder` on tables that Spark writes.

    Args:
        run: The pass.
        batch: As it is staged.
        frames: The rows of the batch after weighing.
    """

    def __init__(self, run: SparkPass, batch: Batch, frames: Frames) -> None:
        self._run = run
        self._batch = batch
        self._frames = frames

    @property
    def target_name(self) -> str:
        """See `Recorder.target_name`."""
        return self._run.tables.target.name

    def target(self) -> tuple[int, int]:
        """See `Recorder.target`."""
        return self._run.tables.target.standing(self._run.app_id)

    def committed(self) -> int | None:
        """See `Recorder.committed`."""
        return self._run.tables.target.version_of(self._run.app_id, self._batch.number)

    def recorded(self) -> Mapping[str, RowCounts] | None:
        """See `Recorder.recorded`."""
        history = self._run.tables.history
        if self._due(history):
            return None
        rows = history.rows().where(f"_batch = {self._batch.number}")
        found = rows.groupBy("_delivery_id", "_outcome").count().collect()
        return counted(self._batch, [tuple(row) for row in found])

    def history(self) -> None:
        """See `Recorder.history`."""
        table = self._run.tables.history
        if self._due(table):
            self._append(table, self._frames.history(), "history")

    def rejects(self) -> None:
        """See `Recorder.rejects`."""
        table = self._run.tables.rejects
        if self._due(table):
            self._append(table, self._frames.rejects() if has_rejects(self._batch) else None, "rejects")

    def deliveries(self, counts: Mapping[str, RowCounts]) -> None:
        """See `Recorder.deliveries`."""
        run, table = self._run, self._run.tables.deliveries
        if self._due(table):
            rows = run.frame(delivery_rows(self._batch, counts), table.columns)
            if self._batch.corrects is None:
                self._append(table, rows, "deliveries")
            else:
                self._merge_deliveries(table, rows)
            run.deliveries_changed()

    def _merge_deliveries(self, table: SparkTable, rows: DataFrame) -> None:
        """Append the batch's deliveries and give those that it corrects their new state, in one commit."""
        run, batch = self._run, self._batch
        changed = run.spark.createDataFrame(changed_deliveries(batch))
        both = rows.unionByName(changed, allowMissingColumns=True)
        run.probe("deliveries.files")
        with run.commit(batch, "DELIVERIES"):
            merge_deliveries(run, both, CHANGED_COLUMNS)
        run.saw(table, {run.app_id: batch.number})
        run.probe("deliveries.committed")

    def _due(self, table: SparkTable) -> bool:
        return self._run.due(table, self._batch)

    def _append(self, table: SparkTable, rows: DataFrame | None, name: str) -> None:
        run, batch = self._run, self._batch
        run.probe(f"{name}.files")
        with run.commit(batch, name.upper()) as told:
            if rows is None:
                mark_batch(run, table, batch, name.upper(), told)
            else:
                table.append(rows, told)
        run.saw(table, {run.app_id: batch.number})
        run.probe(f"{name}.committed")


def merge_deliveries(run: SparkPass, rows: DataFrame, columns: Sequence[str]) -> None:
    """Append deliveries and change others, in one commit, within `SparkPass.commit`.

    Args:
        run: The pass.
        rows: Those to append, whole; and of the others the id and the columns.
        columns: The columns that change.
    """
    sets = ", ".join(f"t.{name} = s.{name}" for name in columns)
    run.spark.sql(
        f"MERGE INTO {run.tables.deliveries.sql_name} t USING {run.view(rows)} s ON t.delivery_id = s.delivery_id "
        f"WHEN MATCHED THEN UPDATE SET {sets} WHEN NOT MATCHED THEN INSERT *"
    ).collect()


def mark_archived(run: SparkPass, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
    """See `Engine.archived`. The mark is a `txn` of the deliveries table under an application id of its own."""
    table = run.tables.deliveries
    if not run.due(table, batch, run.archive_id):
        if elsewhere:
            # Without a `txn`: Delta would take it for a repeated commit and write nothing.
            amend(run, "archived_to", elsewhere)
        return
    with run.commit(batch, "ARCHIVE", run.archive_id) as told:
        if elsewhere:
            amend(run, "archived_to", elsewhere)
        else:
            mark_batch(run, table, batch, "ARCHIVE", told, run.archive_id)
    run.saw(table, {run.archive_id: batch.number})
    run.probe("archived.committed")


def amend(run: SparkPass, column: str, values: Mapping[str, str | None]) -> None:
    """Give deliveries other values in a column of text, in one commit.

    Args:
        run: The pass.
        column: Of the deliveries.
        values: By delivery id.
    """
    columns = {"delivery_id": pa.array(list(values), pa.string()), column: pa.array(list(values.values()), pa.string())}
    changed = run.spark.createDataFrame(pa.table(columns), schema=f"delivery_id STRING, {column} STRING")
    run.spark.sql(
        f"MERGE INTO {run.tables.deliveries.sql_name} t USING {run.view(changed)} s ON t.delivery_id = s.delivery_id "
        f"WHEN MATCHED THEN UPDATE SET t.{column} = s.{column}"
    ).collect()


def mark_batch(
    run: SparkPass, table: SparkTable, batch: Batch, operation: str, told: Told, app_id: str | None = None
) -> None:
    """Record a batch in a table in one commit that changes no row, within `SparkPass.commit`.

    Args:
        run: The pass.
        table: The table.
        batch: The batch.
        operation: For the history of the table.
        told: From `SparkPass.commit`.
        app_id: The application id; None means the pipeline's.
    """
    nothing = run.frame(arrow_schema_of(table.columns).empty_table(), table.columns)
    table.mark(nothing, batch_txn(app_id or run.app_id, batch), operation, told)
