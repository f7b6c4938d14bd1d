"""Weighs a small batch when only Spark reads the tables: its rows, and the target's of its keys, come to the driver.

`local.weigh` weighs them, on tables in a scratch folder that hold just these rows. So a small batch costs Spark one
query of the target, and the commits.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ordertrail.delta.alter import alter
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Change, Table, scan_sql
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.session import tables_of as local_tables
from ordertrail.engines.spark.changes import frame_of
from ordertrail.engines.spark.tables import ticked
from ordertrail.engines.spark.work import SparkPass
from ordertrail.model import Batch, no_probe
from ordertrail.parse.database import connect, release
from ordertrail.rules.accepted import recorded_sql
from ordertrail.rules.others import others_of
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import APP_ID, stage_columns, target_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class FetchedTables:
    """`Reads` on the rows of the batch's keys, in tables of a temporary folder.

    Attributes:
        session: On these tables; the stage holds the batch.

    Args:
        run: The pass in Spark.
        batch: As it is staged.
        stage_version: The version of the stage that has the batch.
    """

    def __init__(self, run: SparkPass, batch: Batch, stage_version: int) -> None:
        self._run = run
        self._batch = batch
        self._held = ExitStack()
        scratch = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="ordertrail-")))
        config = run.config.embedded_in(scratch / "tables")
        con = connect(config.threads, config.memory_limit_mb, scratch / "spill")
        self._held.callback(release, con)
        pool = self._held.enter_context(ThreadPoolExecutor(max_workers=1))
        self.session = Session(config, con, pool, local_tables(config), run.app_id, no_probe)
        self._history: Snapshot | None = None
        for table in self.session.tables.all:
            table.create({APP_ID: run.app_id})
        self._put(self.session.tables.stage, run.staged_here(batch, stage_version))

    def target(self, version: int) -> Snapshot:
        """See `Reads.target`; the deliveries come with it."""
        tables, here = self._run.tables, self.session.tables
        self._put(here.deliveries, self._run.deliveries())
        rows = self._of_keys(tables.target.rows(version, others=True), None)
        if others := others_of(rows.schema.json(), tables.target.columns):
            alter(here.target, here.target.snapshot(), others)
        self._put(here.target, rows.toArrow())
        return here.target.snapshot()

    def history(self, keys: str) -> Snapshot:
        """See `Reads.history`. For a correction these are the rows of all keys that it touches."""
        if self._history is None:
            self._put(self.session.tables.history, self._of_keys(self._past(), keys).toArrow())
            self._history = self.session.tables.history.snapshot()
        return self._history

    def close(self) -> None:
        """See `Reads.close`."""
        self._held.close()

    def _past(self) -> DataFrame:
        return self._run.tables.history.rows().where(recorded_sql(self._batch.number - 1))

    def _of_keys(self, rows: DataFrame, keys: str | None) -> DataFrame:
        """The rows of some staged keys, and of those that a correction is about.

        `keys` is SQL of the staged keys as text, None or "" for all.
        """
        from pyspark.sql import functions as f

        contract, session = self._run.config.contract, self.session
        staged = scan_sql(session.con, session.tables.stage.snapshot(), stage_columns(contract))
        names = ", ".join(map(name_sql, contract.key))
        only = f" AND {contract_key_sql(contract)} IN ({keys})" if keys else ""
        found = f"SELECT DISTINCT {names} FROM {staged} WHERE _kind = 'row'{only}"
        columns = [column for column in target_columns(contract) if column.name in contract.key]
        columns.sort(key=lambda column: contract.key.index(column.name))
        wanted = frame_of(self._run, session.con, found, columns).toDF(*(f"_wanted{i}" for i in range(len(columns))))
        if (manifest := self._batch.corrects) is not None and manifest.correction is not None:
            concerned = self._past().where(f.col("_delivery_id").isin(list(manifest.correction.of)))
            wanted = wanted.unionByName(
                concerned.select(*(f.col(ticked(name)).alias(f"_wanted{i}") for i, name in enumerate(contract.key)))
            ).distinct()
        same = [f.col(ticked(name)) == f.col(f"_wanted{i}") for i, name in enumerate(contract.key)]
        return rows.join(f.broadcast(wanted), same, "left_semi")

    def _put(self, table: Table, rows: pa.Table) -> None:
        path = table.new_path("rows")
        pq.write_table(rows, path)
        base = table.snapshot()
        table.commit(base, Change(self.session.txn(self._batch), "WRITE", [table.added(path, rows.num_rows)]))
