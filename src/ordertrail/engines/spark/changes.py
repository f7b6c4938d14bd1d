"""Passes the rows of a batch that was weighed in DuckDB to Spark: the source of its `MERGE`, history and rejects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
from msgspec.structs import replace

from ordertrail.arrow import conformed
from ordertrail.delta.table import scan_sql
from ordertrail.engines.batch_rows import rejects_sql
from ordertrail.engines.local.accepted import ChangeSet, WeighedHere, accepted_rows_sql
from ordertrail.engines.local.others import carry
from ordertrail.engines.local.relations import TOUCHED
from ordertrail.engines.spark.merge import Changes, guard_columns
from ordertrail.engines.spark.pruning import Pruning, pruned_by, pruning_of
from ordertrail.engines.spark.work import SparkPass, arrow_schema_of
from ordertrail.model import Outcome
from ordertrail.rules.audit import CHANGED, clock_sql
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import TableColumn, stage_columns, target_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class LocalFrames:
    """`Frames` of a batch that was weighed in DuckDB.

    Args:
        run: The pass in Spark.
        weighing: The weighing of the batch.
    """

    def __init__(self, run: SparkPass, weighing: WeighedHere) -> None:
        self._run = run
        self._weighing = weighing

    def changes(self) -> Changes:
        """See `Frames.changes`."""
        weighing = self._weighing
        change = weighing.change
        doubles = bool(weighing.session.run(f"SELECT count(*) FROM {change.weighed.found.doubled}")[0][0])
        others = change.others if doubles else ()
        columns = (*target_columns(weighing.contract), *others, *guard_columns(weighing.contract))
        rows = self._frame(_source_sql(weighing, others, doubles=doubles), columns)
        gone = doubles or weighing.batch.corrects is not None
        return Changes(rows, gone, _pruning(weighing), tuple(column.name for column in others))

    def appended(self) -> DataFrame:
        """See `Frames.appended`."""
        weighing = self._weighing
        sql = accepted_rows_sql(weighing.session, weighing.change, CHANGED, for_history=False)
        return self._frame(sql, target_columns(weighing.contract))

    def history(self) -> DataFrame:
        """See `Frames.history`."""
        weighing = self._weighing
        sql = accepted_rows_sql(weighing.session, weighing.said, tuple(CODES.values()), for_history=True)
        return self._frame(sql, self._run.tables.history.columns)

    def rejects(self) -> DataFrame:
        """See `Frames.rejects`."""
        weighing = self._weighing
        staged = scan_sql(weighing.session.con, weighing.stage, stage_columns(weighing.contract))
        sql = rejects_sql(weighing.batch, staged, clock_sql(weighing.batch.clock))
        return self._frame(sql, self._run.tables.rejects.columns)

    def _frame(self, sql: str, columns: Sequence[TableColumn]) -> DataFrame:
        return frame_of(self._run, self._weighing.session.con, sql, columns)


def frame_of(run: SparkPass, con: duckdb.DuckDBPyConnection, sql: str, columns: Sequence[TableColumn]) -> DataFrame:
    """The rows of a DuckDB query as a DataFrame with some columns."""
    schema = arrow_schema_of(columns)
    rows = con.sql(sql).to_arrow_table()
    return run.frame(pa.Table.from_batches([conformed(part, schema) for part in rows.to_batches()], schema), columns)


def _pruning(weighing: WeighedHere) -> Pruning | None:
    column = pruned_by(weighing.contract)
    if column is None:
        return None
    changed = weighing.change.keys
    if changed is None:
        staged = scan_sql(weighing.session.con, weighing.stage, stage_columns(weighing.contract))
        changed = f"{staged} WHERE _kind = 'row'"
    keys = weighing.session.run(f"SELECT DISTINCT {name_sql(column)} FROM {changed}")
    return pruning_of(column, (str(key) for (key,) in keys))


def _source_sql(weighing: WeighedHere, others: Sequence[TableColumn], *, doubles: bool) -> str:
    """SQL of `Changes.rows`; creates `changes`."""
    session, contract, target = weighing.session, weighing.contract, weighing.before
    assert target is not None  # set by the weighing
    change = replace(weighing.change, others=tuple(others))
    weighed = change.weighed
    carried = carry(session, weighed, target, others)
    rows = accepted_rows_sql(session, change, CHANGED, carried, for_history=False)
    keys = ", ".join(f"a.{name_sql(name)} AS _k{i}" for i, name in enumerate(contract.key))
    session.run(
        f"CREATE OR REPLACE TEMP TABLE changes AS SELECT a.*, o.outcome = {CODES[Outcome.UPDATED]} AS _found, "
        f"o.rv AS _old_revision, o.ins AS _old_ins, false AS _gone, {keys}, o.k AS _key FROM ({rows}) a "
        f"JOIN {weighed.staged.deliveries} d ON a._delivery_id = d.delivery_id "
        f"JOIN {weighed.outcomes} o ON o.dn = d.dn AND o.fr = a._file_row"
    )
    removed = _removed_sql(weighing, change)
    if not doubles:
        return f"SELECT * EXCLUDE (_key) FROM changes{removed}"
    columns = (*target_columns(contract), *others)
    names = ", ".join(name_sql(column.name) for column in columns)
    stays = names.replace('"_inserted_at"', 'make_timestamptz(b.ins) AS "_inserted_at"')
    best = f"{scan_sql(session.con, target, columns)} a JOIN {weighed.best} b ON a._pos = b.pos AND b.copies > 1"
    alone = f"_key NOT IN (SELECT k FROM {weighed.found.doubled})"
    return (
        f"SELECT * EXCLUDE (_key) FROM changes WHERE {alone} UNION ALL BY NAME "
        f"SELECT {names}, false AS _found, false AS _gone FROM changes WHERE NOT ({alone}) UNION ALL BY NAME "
        f"SELECT {stays}, false AS _found, false AS _gone FROM {best} WHERE b.place = 1 "
        f"AND b.k NOT IN (SELECT _key FROM changes) AND b.k NOT IN (SELECT k FROM {weighed.outcomes} "
        f"WHERE outcome = {CODES[Outcome.REMOVED]}) UNION ALL BY NAME "
        f"SELECT DISTINCT {keys}, true AS _gone FROM {best}{removed}"
    )


def _removed_sql(weighing: WeighedHere, change: ChangeSet) -> str:
    """SQL, to follow that of the changes, of the keys whose rows a correction takes out of the target.

    Keys that the target has more than once are deleted like all of these.
    """
    if change.keys is None:
        return ""
    keys = ", ".join(f"kc{i} AS _k{i}" for i in range(len(weighing.contract.key)))
    return (
        f" UNION ALL BY NAME SELECT {keys}, true AS _found, f.rv AS _old_revision, f.ins AS _old_ins, true AS _gone "
        f"FROM {TOUCHED} t JOIN {change.weighed.outcomes} f ON t.k = f.k WHERE f.pos IS NOT NULL "
        f"AND f.outcome = {CODES[Outcome.REMOVED]} AND f.k NOT IN (SELECT k FROM {change.weighed.found.doubled})"
    )
