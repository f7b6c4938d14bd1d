"""Spark with Delta Lake in this process, and its way to read a house's tables and to write to its target.

Settings are for small tables on two cores: measured, Delta's own 50 partitions of a snapshot cost more than all
else. One JVM serves all tests of a process.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tests.harness import House, bag, check_readers, columns_of
from tests.oracle import Row
from tests.spark.jars import jars, java_problem

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
    # Tests are over before the second compiler would pay.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
"""Of the session, but for its jars and its warehouse."""


def problem() -> str | None:
    """Why there can be no session, with what to do about it; None when there can."""
    if (why := java_problem()) is not None:
        return why
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed: make spark-jars"
    return None if jars() else "the jars of Delta Lake are not there, or are damaged: make spark-jars"


def start(warehouse: Path) -> SparkSession:
    """Begin the one session of this process.

    Args:
        warehouse: A new folder, for tables without a path; there should be none.
    """
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    listed = ",".join(map(str, jars()))
    builder = SparkSession.builder.master("local[2]").config(map=SETTINGS).config("spark.jars", listed)
    return builder.config("spark.sql.warehouse.dir", str(warehouse)).getOrCreate()


@dataclass(frozen=True, slots=True)
class Spark:
    """A session with the words of these tests."""

    session: SparkSession

    def run(self, sql: str) -> None:
        """Run a statement to its end; what it returns is of no interest."""
        self.session.sql(sql).collect()

    def select(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query, with aware UTC datetimes."""
        found: list[dict[str, Any]] = self.arrow(sql).to_pylist()
        return found

    def arrow(self, sql: str) -> pa.Table:
        """The rows of a query, with Spark's own types."""
        return self.session.sql(sql).toArrow()

    def read(self, house: House, table: str, version: int | None = None) -> list[Row]:
        """All rows of a table, in no particular order; one of `tests.harness.Read`."""
        names = ", ".join(f"`{column.name}`" for column in columns_of(house, table))
        at = "" if version is None else f" VERSION AS OF {version}"
        return self.select(f"SELECT {names} FROM {at_path(house.table_path(table))}{at}")


def at_path(root: Path) -> str:
    """A table's name in Spark's SQL."""
    return f"delta.`{root}`"


def target(house: House) -> str:
    """The target's name in Spark's SQL."""
    return at_path(house.table_path("target"))


def check_spark(house: House, spark: Spark) -> None:
    """Spark, delta-rs, Polars and DuckDB give the same rows of every table that others read (P9)."""
    check_readers(house)
    for table in ("target", "history", "rejects", "deliveries"):
        if (house.table_path(table) / "_delta_log").exists():
            assert bag(spark.read(house, table)) == bag(house.rows(table)), f"Spark reads {table} differently"
