"""Checks whether a target can be adopted, before `adopt` writes anything.

A table in a folder must suit the embedded engine, too, whichever engine adopts it; one that only Spark reads must be
such that its `MERGE` can bring it up to date. Each refusal says what to do, as an SQL statement where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from ordertrail.engines.spark.tables import ticked
from ordertrail.engines.spark.work import SparkPass, spark_type
from ordertrail.errors import UnsupportedTableError, UsageError
from ordertrail.rules.agreement import refuse_never_null
from ordertrail.rules.schema import DeclaredTable, declared_columns
from ordertrail.rules.tables import AUDIT

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType

_REFUSED = {
    "delta.appendOnly": "rows of it cannot be updated",
    "delta.setTransactionRetentionDuration": "batches that are loaded would be forgotten",
}
"""Properties that a table read only by Spark must not have, with their effect."""


def require_adoptable(run: SparkPass) -> None:
    """Refuse a target that no pass could bring up to date afterwards; reads only.

    Raises:
        UsageError: Its columns or rows do not meet the contract.
        UnsupportedTableError: It has a feature that we must not write to.
    """
    target = run.tables.target
    detail = run.spark.sql(f"DESCRIBE DETAIL {target.sql_name}").collect()[0].asDict()
    _require_delta(target.name, target.sql_name, detail)
    if run.config.in_folders:
        target.require_writable()
    else:
        _require_mergeable(target.name, target.sql_name, detail)
    rows = run.spark.table(target.sql_name)
    _require_columns(run, {field.name: field.dataType for field in rows.schema})
    declared = DeclaredTable(target.name, declared_columns(rows.schema.json()), target.columns)
    refuse_never_null(declared, run.config.contract)
    _require_rows(run, rows)


def _require_delta(name: str, sql_name: str, detail: Mapping[str, Any]) -> None:
    if detail["format"] != "delta":
        raise UsageError(
            f"the table {name} is of the format {detail['format']}, not delta",
            hint=f"make it one first: CONVERT TO DELTA {sql_name}",
        )


def _require_mergeable(name: str, sql_name: str, detail: Mapping[str, Any]) -> None:
    """Refuse, for a table read only by Spark, what Delta's own `MERGE` cannot do or would lose."""
    for property_name, problem in _REFUSED.items():
        value = str(detail["properties"].get(property_name, "false"))
        if value.lower() != "false":
            raise UnsupportedTableError(
                f"the table {name} has {property_name} = {value}: {problem}; it was not touched",
                hint=f"ALTER TABLE {sql_name} UNSET TBLPROPERTIES ('{property_name}')",
            )
    if "identityColumns" in (detail["tableFeatures"] or ()):
        raise UnsupportedTableError(
            f"the table {name} has identity columns, whose values cannot be written again; it was not touched",
            hint=f"write it as another one: CREATE TABLE … USING delta AS SELECT * FROM {sql_name}",
        )


# --- columns -----------------------------------------------------------------------------------------------------


def _require_columns(run: SparkPass, present: Mapping[str, DataType]) -> None:
    """Check that the contract's columns exist with its names and types, and that columns named like ours are ours."""
    folded = {name.lower(): name for name in present}
    for column in run.config.contract.columns:
        wanted = spark_type(column.type)
        if column.name in present:
            if present[column.name] != wanted:
                raise _other_type(run, column.name, present[column.name], column.type, [*present])
        elif (other := folded.get(column.name.lower())) is not None:
            raise UsageError(
                f"the table {run.tables.target.name} has the column {other}, which the contract calls {column.name}",
                hint=f'write it in [contract] as the table has it: name = "{other}", also in key, order_by and '
                "status where it is there; what vendors call it counts without regard to case",
            )
        else:
            kind = wanted.simpleString().upper()
            raise UsageError(
                f"the table {run.tables.target.name} has no column {column.name}",
                hint=f"add it: ALTER TABLE {run.tables.target.sql_name} ADD COLUMNS ({ticked(column.name)} {kind}); or "
                "take it out of [contract]",
            )
    for own in AUDIT:
        found = present.get(own.name)
        other = folded.get(own.name.lower())
        if other is not None and (found is None or found != spark_type(own.type)):
            raise UsageError(
                f"the table {run.tables.target.name} has a column {other} of its own, a name that is ordertrail's",
                hint=_written_anew(run, f"SELECT * EXCEPT ({ticked(other)}), {ticked(other)} AS `their{other}`"),
            )


def _other_type(run: SparkPass, name: str, found: DataType, wanted: str, columns: Sequence[str]) -> UsageError:
    """Refuse a column of another type: it must be rewritten, as other readers cannot read Delta's type widening."""
    listed = (
        f"CAST({ticked(one)} AS {wanted.upper()}) AS {ticked(one)}" if one == name else ticked(one) for one in columns
    )
    zone = ""
    if found.simpleString() == "timestamp_ntz" and wanted == "timestamp":
        zone = "its times have no zone: say which one it is with SET TIME ZONE 'UTC', then "
    anew = _written_anew(run, f"SELECT {', '.join(listed)}")
    return UsageError(
        f"the column {name} of {run.tables.target.name} is {found.simpleString()}, not {wanted}",
        hint=f"{zone}{anew}; or change the type in [contract]",
    )


def _written_anew(run: SparkPass, select: str) -> str:
    table = run.tables.target.sql_name
    return f"write the table anew: CREATE OR REPLACE TABLE {table} USING delta AS {select} FROM {table}"


# --- rows --------------------------------------------------------------------------------------------------------


def _require_rows(run: SparkPass, rows: DataFrame) -> None:
    """Check that no row lacks its key or its event time."""
    from pyspark.sql import functions as f

    contract, target = run.config.contract, run.tables.target
    names = (*contract.key, contract.order_by)
    lacking = rows.where(reduce(or_, [f.col(ticked(name)).isNull() for name in names])).count()
    if lacking:
        where = " OR ".join(f"{ticked(name)} IS NULL" for name in names)
        raise UsageError(
            f"{lacking} rows of {target.name} lack a key or {contract.order_by}",
            hint="no order could be told for them: fill them in, or take them out with DELETE FROM "
            f"{target.sql_name} WHERE {where}",
        )
