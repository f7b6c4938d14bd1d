"""Rows of one of our tables as the order rules see them, computed in Spark's Python workers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from ordertrail.engines.spark.tables import ticked
from ordertrail.engines.spark.work import spark_type
from ordertrail.engines.spark.workers import RELATION, run_sql
from ordertrail.model import Contract
from ordertrail.rules.placing import TOTAL_ORDER, content_sql, order_sql
from ordertrail.rules.sql import name_sql

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_MEASURED = {column.name: column.type for column in TOTAL_ORDER if not column.of_delivery} | {
    "delivery_id": "string",
    "ch": "bigint",
}
"""What `measured` gives beside the key, with contract types: `ch` is the content, the rest leads to the order."""


def key_column(contract: Contract) -> Column:
    """The key of a row of one of our tables as one value that Spark can compare."""
    from pyspark.sql import functions as f

    columns = [f.col(ticked(name)) for name in contract.key]
    if len(columns) == 1:
        return columns[0]
    return f.struct(*(column.alias(f"key{i}") for i, column in enumerate(columns)))


def measured(rows: DataFrame, contract: Contract, carried: Mapping[str, str]) -> DataFrame:
    """Rows with their key `k`, their content `ch`, the order columns that they supply, and their `delivery_id`.

    Args:
        rows: With the contract's columns, `_rescued`, `_file_row` and `_delivery_id`.
        contract: Names the key, the order and the status.
        carried: Further columns, by the name they get.
    """
    from pyspark.sql import functions as f
    from pyspark.sql.types import StructField, StructType

    names = list(dict.fromkeys([*contract.names, "_rescued", "_file_row", "_delivery_id", *carried.values()]))
    taken = rows.select(*(f.col(ticked(name)) for name in names))
    cells = [f"{name_sql(name)} AS key{i}" for i, name in enumerate(contract.key)]
    cells += [order_sql(contract), f"{content_sql(contract)} AS ch"]
    cells += [f"{name_sql(column)} AS {name}" for name, column in carried.items()]
    types = {field.name: field.dataType for field in taken.schema}
    fields = [StructField(f"key{i}", types[name]) for i, name in enumerate(contract.key)]
    fields += [StructField(name, spark_type(kind)) for name, kind in _MEASURED.items()]
    fields += [StructField(name, types[column]) for name, column in carried.items()]
    found = taken.mapInArrow(partial(run_sql, f"SELECT {', '.join(cells)} FROM {RELATION}"), StructType(fields))
    keys = [f.col(f"key{i}") for i in range(len(contract.key))]
    return found.select((keys[0] if len(keys) == 1 else f.struct(*keys)).alias("k"), *_MEASURED, *carried)
