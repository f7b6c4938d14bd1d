"""The source of a small batch's `MERGE`: the rows that the embedded engine's load would write, handed to Spark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from ordertrail.arrow import conformed
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.embedded.apply import CHANGED, accepted_rows_sql
from ordertrail.engines.embedded.load import Load
from ordertrail.engines.local.others import carry
from ordertrail.engines.spark.merge import Changes, Pruning, guard_columns, pruned_by, slot, slots_for
from ordertrail.engines.spark.work import SparkPass, arrow_schema_of
from ordertrail.model import Outcome
from ordertrail.rules.cells import name_sql
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.tables import TableColumn, stage_columns, target_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def changes_of(run: SparkPass, load: Load, target: Snapshot) -> Changes:
    """What a load would apply, as what a `MERGE` is to apply.

    Args:
        run: The pass.
        load: Its rows have been weighed.
        target: What they were weighed against.
    """
    doubles = bool(load.session.run("SELECT count(*) FROM doubled")[0][0])
    others = load.change.others if doubles else ()
    columns = (*target_columns(load.contract), *others, *guard_columns(load.contract))
    sql = _source_sql(load, target, others, doubles=doubles)
    return Changes(frame_of(run, load, sql, columns), doubles, _pruning(load), tuple(c.name for c in others))


def frame_of(run: SparkPass, load: Load, sql: str, columns: Sequence[TableColumn]) -> DataFrame:
    """The rows of a query of a load's DuckDB, as a DataFrame with some columns."""
    schema = arrow_schema_of(columns)
    rows = load.session.con.sql(sql).to_arrow_table()
    return run.frame(pa.Table.from_batches([conformed(part, schema) for part in rows.to_batches()], schema), columns)


def _pruning(load: Load) -> Pruning | None:
    column = pruned_by(load.contract)
    if column is None:
        return None
    staged = scan_sql(load.session.con, load.stage, stage_columns(load.contract))
    keys = load.session.run(f"SELECT DISTINCT {name_sql(column)} FROM {staged} WHERE _kind = 'row'")
    slots = slots_for(len(keys))
    return None if slots is None else Pruning(column, slots, frozenset(slot(str(key), slots) for (key,) in keys))


def _source_sql(load: Load, target: Snapshot, others: Sequence[TableColumn], *, doubles: bool) -> str:
    """SQL of `Changes.rows`; makes `changes`."""
    session, contract = load.session, load.contract
    carry(session, target, others)
    rows = accepted_rows_sql(session, replace(load.change, others=tuple(others)), CHANGED, for_history=False)
    keys = ", ".join(f"a.{name_sql(name)} AS _k{i}" for i, name in enumerate(contract.key))
    session.run(
        f"CREATE OR REPLACE TEMP TABLE changes AS SELECT a.*, o.outcome = {CODES[Outcome.UPDATED]} AS _found, "
        f"o.rv AS _old_revision, o.ins AS _old_ins, false AS _gone, {keys}, o.k AS _key FROM ({rows}) a "
        "JOIN batch_deliveries d ON a._delivery_id = d.delivery_id "
        "JOIN outcomes o ON o.dn = d.dn AND o.fr = a._file_row"
    )
    if not doubles:
        return "SELECT * EXCLUDE (_key) FROM changes"
    columns = (*target_columns(contract), *others)
    names = ", ".join(name_sql(column.name) for column in columns)
    stays = names.replace('"_inserted_at"', 'make_timestamptz(b.ins) AS "_inserted_at"')
    best = f"{scan_sql(session.con, target, columns)} a JOIN best b ON a._pos = b.pos AND b.copies > 1"
    alone = "_key NOT IN (SELECT k FROM doubled)"
    return (
        f"SELECT * EXCLUDE (_key) FROM changes WHERE {alone} UNION ALL BY NAME "
        f"SELECT {names}, false AS _found, false AS _gone FROM changes WHERE NOT ({alone}) UNION ALL BY NAME "
        f"SELECT {stays}, false AS _found, false AS _gone FROM {best} WHERE b.place = 1 "
        f"AND b.k NOT IN (SELECT _key FROM changes) UNION ALL BY NAME "
        f"SELECT DISTINCT {keys}, true AS _gone FROM {best}"
    )
