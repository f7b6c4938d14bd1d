"""Checks whether a target can be adopted, before `adopt` writes anything.

A table in a folder must suit the embedded engine, too, whichever engine adopts it; one that only Spark reads must be
such that its `MERGE` can bring it up to date. Each refusal says what to do, as an SQL statement where there is one.
`refusals` gives one after the other, as they are found: a dry run shows all, and adopting ends with the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ordertrail.engines.spark.tables import ticked
from ordertrail.engines.spark.work import SparkPass, spark_type
from ordertrail.errors import OrdertrailError, UnsupportedTableError, UsageError
from ordertrail.rules.agreement import refuse_never_null
from ordertrail.rules.schema import DeclaredTable, declared_columns
from ordertrail.rules.tables import AUDIT

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType

_EXAMPLES = 5

_REFUSED = {
    "delta.appendOnly": "rows of it cannot be updated",
    "delta.setTransactionRetentionDuration": "batches that are loaded would be forgotten",
}
"""Properties that a table read only by Spark must not have, with their effect."""


class Doubled(Struct, frozen=True):
    """Keys that a table has more than once.

    Attributes:
        keys: How many.
        rows: How many rows are too many: those that would go if each key kept one.
        examples: Some of the keys, as text; the parts of one that has several columns are separated by `, `.
    """

    keys: int
    rows: int
    examples: tuple[str, ...] = ()


def refusals(run: SparkPass, detail: Mapping[str, Any]) -> Iterator[OrdertrailError]:
    """Why no pass could bring the target up to date afterwards; reads only.

    Args:
        run: The target, and the contract that it must meet.
        detail: What `DESCRIBE DETAIL` says of the target.

    Yields:
        `UnsupportedTableError` for a feature that we must not write to, `UsageError` for columns or rows that do not
        meet the contract. Rows are looked at where the columns are right.
    """
    target = run.tables.target
    if other := _other_format(target.name, target.sql_name, detail):
        yield other
        return
    if run.config.in_folders:
        try:
            target.require_writable()
        except UnsupportedTableError as error:
            yield error
    else:
        yield from _unmergeable(target.name, target.sql_name, detail)
    rows = run.spark.table(target.sql_name)
    unfit = list(_unfit_columns(run, {field.name: field.dataType for field in rows.schema}))
    yield from unfit
    declared = DeclaredTable(target.name, declared_columns(rows.schema.json()), target.columns)
    try:
        refuse_never_null(declared, run.config.contract)
    except UsageError as error:
        yield error
    if not unfit:
        yield from _unfit_rows(run, rows)


def doubled_keys(run: SparkPass, rows: DataFrame) -> Doubled:
    """The keys that a table has more than once.

    Args:
        run: Names the key.
        rows: With its columns.
    """
    from pyspark.sql import functions as f

    found = several(run, rows).cache()
    try:
        keys, extra = found.agg(f.count("*"), f.coalesce(f.sum("copies") - f.count("*"), f.lit(0))).collect()[0]
        some = found.drop("copies").limit(_EXAMPLES).collect() if keys else []
    finally:
        found.unpersist()
    return Doubled(keys, int(extra), tuple(", ".join(map(str, row)) for row in some))


def several(run: SparkPass, rows: DataFrame) -> DataFrame:
    """The key columns of the keys that a table has more than once, and `copies`, how often each is there."""
    from pyspark.sql import functions as f

    keys = [f.col(ticked(name)) for name in run.config.contract.key]
    return rows.groupBy(*keys).agg(f.count("*").alias("copies")).where("copies > 1")


def doubled_error(run: SparkPass, doubled: Doubled) -> UsageError:
    """The refusal of a target with `doubled` keys."""
    table, key = run.tables.target, ", ".join(map(ticked, run.config.contract.key))
    return UsageError(
        f"{doubled.keys} keys of {table.name} are there more than once ({doubled.rows} rows too many), such as "
        + "; ".join(doubled.examples),
        hint="ordertrail adopt --doubled newest keeps of each key the row that is the newest by the order rules, and "
        f"has the others in the history. To look at them: SELECT {key}, count(*) FROM {table.sql_name} GROUP BY {key} "
        "HAVING count(*) > 1",
    )


def _other_format(name: str, sql_name: str, detail: Mapping[str, Any]) -> UsageError | None:
    """The refusal of a table that is no Delta table."""
    if detail["format"] == "delta":
        return None
    return UsageError(
        f"the table {name} is of the format {detail['format']}, not delta",
        hint=f"make it one first: CONVERT TO DELTA {sql_name}",
    )


def _unmergeable(name: str, sql_name: str, detail: Mapping[str, Any]) -> Iterator[UnsupportedTableError]:
    """What, of a table read only by Spark, Delta's own `MERGE` cannot do or would lose."""
    for property_name, problem in _REFUSED.items():
        value = str(detail["properties"].get(property_name, "false"))
        if value.lower() != "false":
            yield UnsupportedTableError(
                f"the table {name} has {property_name} = {value}: {problem}; it was not touched",
                hint=f"ALTER TABLE {sql_name} UNSET TBLPROPERTIES ('{property_name}')",
            )
    if "identityColumns" in (detail["tableFeatures"] or ()):
        yield UnsupportedTableError(
            f"the table {name} has identity columns, whose values cannot be written again; it was not touched",
            hint=f"write it as another one: CREATE TABLE … USING delta AS SELECT * FROM {sql_name}",
        )


# --- columns -----------------------------------------------------------------------------------------------------


def _unfit_columns(run: SparkPass, present: Mapping[str, DataType]) -> Iterator[UsageError]:
    """Contract columns that lack, or have another name or type; and columns of the owner's that are named like ours."""
    folded = {name.lower(): name for name in present}
    for column in run.config.contract.columns:
        wanted = spark_type(column.type)
        if column.name in present:
            if present[column.name] != wanted:
                yield _other_type(run, column.name, present[column.name], column.type, [*present])
        elif (other := folded.get(column.name.lower())) is not None:
            yield UsageError(
                f"the table {run.tables.target.name} has the column {other}, which the contract calls {column.name}",
                hint=f'write it in [contract] as the table has it: name = "{other}", also in key, order_by and '
                "status where it is there; what vendors call it counts without regard to case",
            )
        else:
            kind = wanted.simpleString().upper()
            yield UsageError(
                f"the table {run.tables.target.name} has no column {column.name}",
                hint=f"add it: ALTER TABLE {run.tables.target.sql_name} ADD COLUMNS ({ticked(column.name)} {kind}); or "
                "take it out of [contract]",
            )
    for own in AUDIT:
        found = present.get(own.name)
        other = folded.get(own.name.lower())
        if other is not None and (found is None or found != spark_type(own.type)):
            yield UsageError(
                f"the table {run.tables.target.name} has a column {other} of its own, a name that is ordertrail's",
                hint=_written_anew(run, f"SELECT * EXCEPT ({ticked(other)}), {ticked(other)} AS `their{other}`"),
            )


def _other_type(run: SparkPass, name: str, found: DataType, wanted: str, columns: Sequence[str]) -> UsageError:
    """Refuse a column of another type: it must be rewritten, as other readers cannot read Delta's type widening."""
    listed = (
        f"CAST({ticked(one)} AS {wanted.upper()}) AS {ticked(one)}" if one == name else ticked(one) for one in columns
    )
    zone = ""
    if name in run.config.contract.key and wanted == "string":
        zone = "numbers have lost their leading zeros: if all have the same length, say ten digits, write "
        zone += f"lpad(CAST({ticked(name)} AS STRING), 10, '0') in what follows; "
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


def _unfit_rows(run: SparkPass, rows: DataFrame) -> Iterator[UsageError]:
    """Rows without a key or an event time."""
    from pyspark.sql import functions as f

    contract, target = run.config.contract, run.tables.target
    names = (*contract.key, contract.order_by)
    lacking = rows.where(reduce(or_, [f.col(ticked(name)).isNull() for name in names])).count()
    if lacking:
        where = " OR ".join(f"{ticked(name)} IS NULL" for name in names)
        yield UsageError(
            f"{lacking} rows of {target.name} lack a key or {contract.order_by}",
            hint="no order could be told for them: fill them in, or take them out with DELETE FROM "
            f"{target.sql_name} WHERE {where}",
        )
