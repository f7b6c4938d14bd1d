"""Turns rows that the target's own constraints refuse into rejects, before the stage is committed.

Delta refuses the whole `MERGE` for one such row, and every later batch would wait behind it. Only tables that Spark
alone writes to have CHECK constraints. A constraint on a column that is not ours, or on one that a vendor never sends
and whose value is in the target, cannot be evaluated here: Delta evaluates it, and its refusal names the constraint and
the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from ordertrail.engines.spark.session import kept
from ordertrail.engines.spark.tables import sql_text, ticked
from ordertrail.engines.spark.work import arrow_schema_of
from ordertrail.rules.constraints import Constraint
from ordertrail.rules.manifests import from_json, to_json

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ordertrail.engines.spark.work import SparkPass


def with_rejects(run: SparkPass, staged: DataFrame, constraints: Sequence[Constraint]) -> tuple[DataFrame, bool]:
    """The rows of the stage, with those that a constraint refuses as rejects, and whether there are any.

    Args:
        run: The pass.
        staged: The rows of the stage: rows, rejects and deliveries.
        constraints: The target's constraints.
    """
    staged = kept(staged)
    usable = [one for one in constraints if _can_be_judged(staged, one)]
    headers = staged.where("_kind = 'delivery'").collect() if usable else []
    manifests = {row["_delivery_id"]: from_json(row["_manifest"]) for row in headers}
    absent = {delivery: manifest.absent for delivery, (manifest, _, _) in manifests.items()}
    judged = run.view(staged.selectExpr("*", f"{_refused_sql(usable, absent)} AS _refused")) if usable else ""
    found = run.spark.sql(_COUNTS.format(judged)).collect() if usable else []
    if not found:
        return staged, False
    changed: list[dict[str, object]] = []
    for row in found:
        manifest, run_id, clock = manifests[row["_delivery_id"]]
        first = manifest.first_error or f"row {row['at']}: {row['reason']}"
        new = replace(manifest, rows_rejected=manifest.rows_rejected + row["refused"], first_error=first)
        header = next(one for one in headers if one["_delivery_id"] == manifest.delivery_id)
        changed.append({**header.asDict(), "_manifest": to_json(new, run_id, clock)})
    columns = run.tables.stage.columns
    new_headers = run.frame(pa.Table.from_pylist(changed, schema=arrow_schema_of(columns)), columns)
    others = run.spark.sql(
        _others_sql(judged, [column.name for column in columns], [str(c["_delivery_id"]) for c in changed])
    )
    return others.unionByName(new_headers), True


_COUNTS = (
    "SELECT _delivery_id, count(*) AS refused, min(_file_row) AS at, min_by(_refused[0].reason, _file_row) AS reason "
    "FROM {} WHERE size(_refused) > 0 GROUP BY _delivery_id"
)


def _can_be_judged(staged: DataFrame, constraint: Constraint) -> bool:
    """Whether a constraint concerns only staged columns."""
    from pyspark.errors import AnalysisException

    try:
        return bool(staged.where(constraint.condition).columns)
    except AnalysisException:
        return False


def _refused_sql(constraints: Sequence[Constraint], absent: Mapping[str, Sequence[str]]) -> str:
    """SQL of the errors of a row, a list; empty for anything that is not a row."""
    errors = []
    for one in constraints:
        error = _error_sql(one, rule="constraint")
        # The target has its own values in columns that the file lacks.
        unknown = [delivery for delivery, names in absent.items() if set(names) & set(one.columns)]
        known = f" AND _delivery_id NOT IN ({', '.join(map(sql_text, unknown))})" if unknown else ""
        errors.append(f"CASE WHEN _kind = 'row' AND NOT coalesce({one.condition}, false){known} THEN {error} END")
    return f"filter(array({', '.join(errors)}), one -> one IS NOT NULL)"


def _error_sql(constraint: Constraint, *, rule: str) -> str:
    """SQL of an entry of `orders_stage._errors`; it names the column if the constraint concerns only one."""
    alone = constraint.columns[0] if len(constraint.columns) == 1 else None
    column, value = ("NULL", "NULL") if alone is None else (sql_text(alone), ticked(alone))
    reason = f"the target refuses it: its constraint {constraint.name} is {constraint.condition}"
    return (
        f"named_struct('column', CAST({column} AS STRING), 'value', CAST({value} AS STRING), "
        f"'rule', {sql_text(rule)}, 'reason', {sql_text(reason)})"
    )


def _others_sql(judged: str, names: Sequence[str], changed: Sequence[str]) -> str:
    """SQL of all staged rows except the headers that changed."""
    made = {
        "_kind": "if(size(_refused) > 0, 'reject', _kind)",
        "_errors": "if(size(_refused) > 0, to_json(_refused, map('ignoreNullFields', 'false')), _errors)",
    }
    listed = ", ".join(f"{made.get(name, ticked(name))} AS {ticked(name)}" for name in names)
    headers = f"_kind = 'delivery' AND _delivery_id IN ({', '.join(map(sql_text, changed))})"
    return f"SELECT {listed} FROM {judged} WHERE NOT ({headers})"
