"""Reads our tables where only Spark reaches them, for those who look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from ordertrail.arrow import arrow_schema
from ordertrail.config import Config
from ordertrail.engines.spark.session import session_of, spark_errors
from ordertrail.engines.spark.tables import tables_of
from ordertrail.rules.tables import DELIVERIES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def deliveries_of(config: Config, session: SparkSession | None, names: Sequence[str]) -> pa.Table:
    """Some columns of all deliveries; without rows before the first pass.

    Args:
        config: Of a pipeline whose tables have names.
        session: None uses the active one, or starts one.
        names: The columns.

    Raises:
        UsageError: Spark is not installed, or cannot start.
        TableError: The table cannot be read.
    """
    types = {column.name: column.type for column in DELIVERIES}
    spark = session or session_of(config)
    with spark_errors("cannot read the deliveries"):
        table = tables_of(spark, config).deliveries
        if not table.exists():
            return arrow_schema((name, types[name]) for name in names).empty_table()
        found: pa.Table = table.rows().select(*names).toArrow()
        return found
