"""Weigh a small batch on Spark: its rows, and the target's rows of its keys, come to the driver.

What weighs them is the embedded engine's load itself (`embedded_load`), on tables in a scratch folder that hold just
these rows. So a small batch costs Spark one look into the target, and the commits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ordertrail.arrow import conformed
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Change, Table, duckdb_errors, scan_sql
from ordertrail.engines.batch_rows import rejects_sql
from ordertrail.engines.embedded_apply import CHANGED, accepted_rows_sql
from ordertrail.engines.embedded_load import Load
from ordertrail.engines.session import Session, clock_sql
from ordertrail.engines.session import tables_of as local_tables
from ordertrail.engines.spark_merge import Changes, Pruning, guard_columns, pruned_by, slot, slots_for
from ordertrail.engines.spark_pass import SparkPass, arrow_schema_of
from ordertrail.engines.spark_tables import ticked
from ordertrail.model import Batch, Outcome, RowCounts, no_probe
from ordertrail.parse.kernel import connect
from ordertrail.rules.cells import name_sql
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.tables import APP_ID, TableColumn, stage_columns, target_columns

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
        config = replace(run.config, engine="embedded", warehouse=scratch / "tables")
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
        columns = (*target_columns(self._load.contract), *guard_columns(self._load.contract))
        with duckdb_errors(f"cannot load batch {self._batch.number}"):
            doubles = bool(self._session.run("SELECT count(*) FROM doubled")[0][0])
            rows = self._arrow(self._changes_sql(doubles=doubles))
            keys = self._keys_to_prune_by()
        slots = slots_for(len(keys))
        pruning = None
        if (column := pruned_by(self._load.contract)) is not None and slots is not None:
            pruning = Pruning(column, slots, frozenset(slot(key, slots) for key in keys))
        return Changes(self._frame(rows, columns), doubles, pruning)

    def history(self) -> DataFrame:
        """See `Weighing.history`."""
        sql = accepted_rows_sql(self._session, self._load.change, _ALL, for_history=True)
        return self._frame(self._arrow(sql), self._run.tables.history.columns)

    def rejects(self) -> DataFrame:
        """See `Weighing.rejects`."""
        session = self._session
        staged = scan_sql(session.con, session.tables.stage.snapshot(), stage_columns(self._load.contract))
        sql = rejects_sql(self._batch, staged, clock_sql(self._batch.clock))
        return self._frame(self._arrow(sql), self._run.tables.rejects.columns)

    def close(self) -> None:
        """See `Weighing.close`."""
        self._held.close()

    def _keys_to_prune_by(self) -> list[str]:
        column = pruned_by(self._load.contract)
        if column is None:
            return []
        staged = scan_sql(self._session.con, self._session.tables.stage.snapshot(), stage_columns(self._load.contract))
        rows = self._session.run(f"SELECT DISTINCT {name_sql(column)} FROM {staged} WHERE _kind = 'row'")
        return [str(key) for (key,) in rows]

    # -- what comes here ------------------------------------------------------------------------------------

    def _fetch(self, target_version: int) -> Snapshot:
        """Fill the scratch tables: the deliveries, and the target's rows of the staged keys."""
        tables, session = self._run.tables, self._session
        self._put(session.tables.deliveries, self._run.deliveries())
        target = self._of_keys(tables.target.rows(target_version), None)
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
        found = self._arrow(f"SELECT DISTINCT {names} FROM {staged} WHERE _kind = 'row'{only}")
        columns = [column for column in target_columns(contract) if column.name in contract.key]
        columns.sort(key=lambda column: contract.key.index(column.name))
        wanted = self._frame(found, columns).toDF(*(f"_wanted{i}" for i in range(len(columns))))
        same = [f.col(ticked(name)) == f.col(f"_wanted{i}") for i, name in enumerate(contract.key)]
        return rows.join(f.broadcast(wanted), same, "left_semi")

    def _put(self, table: Table, rows: pa.Table) -> None:
        path = table.new_path("rows")
        pq.write_table(rows, path)
        base = table.snapshot()
        table.commit(base, Change(self._session.txn(self._batch), "WRITE", [table.added(path, rows.num_rows)]))

    # -- what goes back -------------------------------------------------------------------------------------

    def _changes_sql(self, *, doubles: bool) -> str:
        """SQL of the source of the MERGE, see `Changes`; makes `changes`."""
        session, contract = self._session, self._load.contract
        rows = accepted_rows_sql(session, self._load.change, CHANGED, for_history=False)
        keys = ", ".join(f"a.{name_sql(name)} AS _k{i}" for i, name in enumerate(contract.key))
        session.run(
            f"CREATE OR REPLACE TEMP TABLE changes AS SELECT a.*, o.outcome = {CODES[Outcome.UPDATED]} AS _found, "
            f"o.rv AS _old_revision, o.ins AS _old_ins, false AS _gone, {keys}, o.k AS _key FROM ({rows}) a "
            "JOIN batch_deliveries d ON a._delivery_id = d.delivery_id "
            "JOIN outcomes o ON o.dn = d.dn AND o.fr = a._file_row"
        )
        if not doubles:
            return "SELECT * EXCLUDE (_key) FROM changes"
        names = ", ".join(name_sql(column.name) for column in target_columns(contract))
        stays = names.replace('"_inserted_at"', 'make_timestamptz(b.ins) AS "_inserted_at"')
        target = scan_sql(session.con, session.tables.target.snapshot(), target_columns(contract))
        best = f"{target} a JOIN best b ON a._pos = b.pos AND b.copies > 1"
        alone = "_key NOT IN (SELECT k FROM doubled)"
        return (
            f"SELECT * EXCLUDE (_key) FROM changes WHERE {alone} UNION ALL BY NAME "
            f"SELECT {names}, false AS _found, false AS _gone FROM changes WHERE NOT ({alone}) UNION ALL BY NAME "
            f"SELECT {stays}, false AS _found, false AS _gone FROM {best} WHERE b.place = 1 "
            f"AND b.k NOT IN (SELECT _key FROM changes) UNION ALL BY NAME "
            f"SELECT DISTINCT {keys}, true AS _gone FROM {best}"
        )

    def _arrow(self, sql: str) -> pa.Table:
        return self._session.con.sql(sql).to_arrow_table()

    def _frame(self, rows: pa.Table, columns: Sequence[TableColumn]) -> DataFrame:
        schema = arrow_schema_of(columns)
        found = pa.Table.from_batches([conformed(batch, schema) for batch in rows.to_batches()], schema)
        return self._run.frame(found, columns)


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
