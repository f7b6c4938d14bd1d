"""Weigh a small batch where only Spark reads the tables: its rows, and the target's of its keys, come to the driver.

What weighs them is the embedded engine's load itself (`load`), on tables in a scratch folder that hold just
these rows. So a small batch costs Spark one look into the target, and the commits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ordertrail.delta.alter import alter
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Change, Table, duckdb_errors, scan_sql
from ordertrail.engines.batch_rows import rejects_sql
from ordertrail.engines.embedded.apply import accepted_rows_sql
from ordertrail.engines.embedded.load import Load
from ordertrail.engines.local.session import Session, clock_sql
from ordertrail.engines.local.session import tables_of as local_tables
from ordertrail.engines.spark.changes import changes_of, frame_of
from ordertrail.engines.spark.merge import Changes
from ordertrail.engines.spark.tables import ticked
from ordertrail.engines.spark.work import SparkPass
from ordertrail.model import Batch, RowCounts, no_probe
from ordertrail.parse.kernel import connect
from ordertrail.rules.cells import name_sql
from ordertrail.rules.others import others_of
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.tables import APP_ID, stage_columns, target_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_ALL = f"({', '.join(map(str, CODES.values()))})"


class DriverWeighing:
    """`Weighing` of a small batch.

    Args:
        run: The pass.
        batch: As it is staged.
        stage_version: Where the stage has it.
    """

    def __init__(self, run: SparkPass, batch: Batch, stage_version: int) -> None:
        self._run = run
        self._batch = batch
        self._held = ExitStack()
        scratch = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="ordertrail-")))
        config = run.config.embedded_in(scratch / "tables")
        con = connect(config.threads, config.memory_limit_mb, scratch / "spill")
        self._held.callback(con.close)
        pool = self._held.enter_context(ThreadPoolExecutor(max_workers=1))
        self._session = Session(config, con, pool, local_tables(config), run.app_id, no_probe)
        for table in self._session.tables.all:
            table.create({APP_ID: run.app_id})
        self._put(self._session.tables.stage, run.staged_here(batch, stage_version))
        self._load = _PartialLoad(self._session, batch, self._fetch_history)

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh`."""
        target = self._fetch(target_version)
        with duckdb_errors(f"cannot load batch {self._batch.number}"):
            return self._load.weigh(target)

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh_again`."""
        target = self._fetch(target_version)
        with duckdb_errors(f"cannot load batch {self._batch.number}"):
            return self._load.weigh_again(target)

    def changes(self) -> Changes:
        """See `Weighing.changes`."""
        with duckdb_errors(f"cannot load batch {self._batch.number}"):
            return changes_of(self._run, self._load, self._session.tables.target.snapshot())

    def history(self) -> DataFrame:
        """See `Weighing.history`."""
        sql = accepted_rows_sql(self._session, self._load.change, _ALL, for_history=True)
        return frame_of(self._run, self._load, sql, self._run.tables.history.columns)

    def rejects(self) -> DataFrame:
        """See `Weighing.rejects`."""
        session = self._session
        staged = scan_sql(session.con, session.tables.stage.snapshot(), stage_columns(self._load.contract))
        sql = rejects_sql(self._batch, staged, clock_sql(self._batch.clock))
        return frame_of(self._run, self._load, sql, self._run.tables.rejects.columns)

    def close(self) -> None:
        """See `Weighing.close`."""
        self._held.close()

    # -- what comes here ------------------------------------------------------------------------------------

    def _fetch(self, target_version: int) -> Snapshot:
        """Fill the scratch tables: the deliveries, and the target's rows of the staged keys."""
        tables, session = self._run.tables, self._session
        self._put(session.tables.deliveries, self._run.deliveries())
        target = self._of_keys(tables.target.rows(target_version, others=True), None)
        if others := others_of(target.schema.json(), tables.target.columns):
            alter(session.tables.target, session.tables.target.snapshot(), others)
        self._put(session.tables.target, target.toArrow())
        return session.tables.target.snapshot()

    def _fetch_history(self, keys: str) -> Snapshot:
        table = self._session.tables.history
        past = self._run.tables.history.rows().where(f"_batch < {self._batch.number}")
        self._put(table, self._of_keys(past, keys).toArrow())
        return table.snapshot()

    def _of_keys(self, rows: DataFrame, keys: str | None) -> DataFrame:
        """The rows of some staged keys; `keys` is SQL of their texts, None for all."""
        from pyspark.sql import functions as f

        contract, session = self._load.contract, self._session
        staged = scan_sql(session.con, session.tables.stage.snapshot(), stage_columns(contract))
        names = ", ".join(map(name_sql, contract.key))
        only = "" if keys is None else f" AND {contract_key_sql(contract)} IN ({keys})"
        found = f"SELECT DISTINCT {names} FROM {staged} WHERE _kind = 'row'{only}"
        columns = [column for column in target_columns(contract) if column.name in contract.key]
        columns.sort(key=lambda column: contract.key.index(column.name))
        wanted = frame_of(self._run, self._load, found, columns).toDF(*(f"_wanted{i}" for i in range(len(columns))))
        same = [f.col(ticked(name)) == f.col(f"_wanted{i}") for i, name in enumerate(contract.key)]
        return rows.join(f.broadcast(wanted), same, "left_semi")

    def _put(self, table: Table, rows: pa.Table) -> None:
        path = table.new_path("rows")
        pq.write_table(rows, path)
        base = table.snapshot()
        table.commit(base, Change(self._session.txn(self._batch), "WRITE", [table.added(path, rows.num_rows)]))


class _PartialLoad(Load):
    """The embedded engine's load, on a history that is fetched where it is needed."""

    def __init__(self, session: Session, batch: Batch, fetch: Callable[[str], Snapshot]) -> None:
        super().__init__(session, batch)
        self._fetch = fetch
        self._history: Snapshot | None = None

    def history_of(self, keys: str) -> Snapshot:
        """See `Load.history_of`. It is asked first for as many keys as ever."""
        if self._history is None:
            self._history = self._fetch(keys)
        return self._history
