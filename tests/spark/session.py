"""Spark with Delta Lake in this process, and its way to read a house's tables and to write to its target.

Settings are for small tables on two cores: measured, Delta's own 50 partitions of a snapshot cost more than all
else. One JVM serves all tests of a process.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tests.harness import House, bag, check_readers, columns_of
from tests.oracle import Row
from tests.spark.jars import jars, java_problem

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CATALOG = "incremental_load"
"""A catalog of its own, for names of three levels."""

SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    f"spark.sql.catalog.{CATALOG}": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
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
    "spark.driver.memory": "3g",
    # Most plans of a test are run once: compiling them, as Spark does, would not pay. A young generation of
    # this size holds the plans of the queries of two workers. Both compilers stay: with the first one alone a few tests
    # are quicker, but all of them together take a third longer.
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -Xms2g -Xmn1200m",
    # What Spark's pages would show of queries that are over.
    "spark.ui.retainedJobs": "5",
    "spark.ui.retainedStages": "5",
    "spark.ui.retainedTasks": "100",
    "spark.sql.ui.retainedExecutions": "5",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""Of the session, but for its jars and its warehouse."""


def problem() -> str | None:
    """Why there can be no session, with what to do about it; None when there can."""
    if (why := java_problem()) is not None:
        return why
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed: make spark-jars"
    return None if jars() else "the jars of Delta Lake are not there, or are damaged: make spark-jars"


BRIEFLY = {"spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"}
"""For a JVM that lives for one pass: what its second compiler does would not pay."""


def start(warehouse: Path, settings: Mapping[str, str] = SETTINGS, shared: Path | None = None) -> SparkSession:
    """Begin the one session of this process.

    Args:
        warehouse: A new folder, for tables without a path; there should be none.
        settings: All but jars and warehouse.
        shared: A folder of the run, for one JVM that serves all its workers; None starts one for this process.
    """
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {"spark.master": "local[2]", "spark.jars": ",".join(map(str, jars())), **settings}
    if shared is None:
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.config(map=dict[str, Any](settings))
        session = builder.config("spark.sql.warehouse.dir", str(warehouse)).getOrCreate()
    else:
        from tests.spark.shared_jvm import session_in

        session = session_in(shared, settings, warehouse)
    # A second catalog without a server: Delta's own, which keeps its tables in the session's catalog.
    catalogs = session._jsparkSession.sessionState().catalogManager()
    catalogs.catalog(CATALOG).setDelegateCatalog(catalogs.v2SessionCatalog())
    return session


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

    def read_versions(self, house: House, table: str, versions: Sequence[int]) -> dict[int, list[Row]]:
        """All rows of a table at each of these versions, in one query."""
        names = ", ".join(f"`{column.name}`" for column in columns_of(house, table))
        root = at_path(house.table_path(table))
        parts = [f"SELECT {version} AS at_version, {names} FROM {root} VERSION AS OF {version}" for version in versions]
        found: dict[int, list[Row]] = {version: [] for version in versions}
        for row in self.select(" UNION ALL ".join(parts)):
            found[row.pop("at_version")].append(row)
        return found


def at_path(root: Path) -> str:
    """A table's name in Spark's SQL."""
    return f"delta.`{root}`"


def target(house: House) -> str:
    """The target's name in Spark's SQL."""
    return at_path(house.table_path("target"))


def check_spark(house: House, spark: Spark, tables: Sequence[str] = ("target",)) -> None:
    """Spark reads the rows of these tables as delta-rs, Polars and DuckDB read those of every table (P9)."""
    check_readers(house)
    for table in tables:
        if (house.table_path(table) / "_delta_log").exists():
            assert bag(spark.read(house, table)) == bag(house.rows(table)), f"Spark reads {table} differently"


@dataclass(frozen=True, slots=True)
class SparkWriter:
    """Spark as a `tests.interleaving.Writer`."""

    spark: Spark

    def append(self, house: House, key: str, values: Mapping[str, object]) -> None:
        self.spark.run(f"INSERT INTO {target(house)} BY NAME {_copy(house, key, values)}")

    def update(self, house: House, key: str, values: Mapping[str, object]) -> None:
        changes = ", ".join(f"{name} = {literal(value)}" for name, value in values.items())
        self.spark.run(f"UPDATE {target(house)} SET {changes} WHERE tracking_num = {literal(key)}")

    def delete(self, house: House, keys: tuple[str, str]) -> None:
        self.spark.run(f"DELETE FROM {target(house)} WHERE tracking_num IN ({', '.join(map(literal, keys))})")

    def merge(self, house: House, keys: tuple[str, str, str], values: Mapping[str, object]) -> None:
        source = " UNION ALL ".join(f"({_copy(house, keys[0], {**values, 'tracking_num': key})})" for key in keys[1:])
        self.spark.run(
            f"MERGE INTO {target(house)} t USING ({source}) s ON t.tracking_num = s.tracking_num "
            "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        )

    def compact(self, house: House) -> None:
        self.spark.run(f"OPTIMIZE {target(house)}")

    def vacuum(self, house: House) -> None:
        self.spark.run(f"VACUUM {target(house)} RETAIN 0 HOURS")

    def restore(self, house: House, version: int) -> None:
        self.spark.run(f"RESTORE TABLE {target(house)} TO VERSION AS OF {version}")


def literal(value: object) -> str:
    """A value in Spark's SQL."""
    match value:
        case datetime():
            return f"TIMESTAMP '{value.isoformat()}'"
        case _:
            return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _copy(house: House, key: str, values: Mapping[str, object]) -> str:
    """SQL of a copy of one row, or of the first of its copies, with other values."""
    kept = f" EXCEPT ({', '.join(values)})" if values else ""
    new = "".join(f", {literal(value)} AS {name}" for name, value in values.items())
    return f"SELECT *{kept}{new} FROM {target(house)} WHERE tracking_num = {literal(key)} LIMIT 1"
