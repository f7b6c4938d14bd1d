"""A Spark session for the engine: an existing one as it is, else our own, which is quick for small batches.

Only this package and `ordertrail.databricks` import Spark.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ordertrail import startup
from ordertrail.config import Config
from ordertrail.engines.spark.causes import RowsLostError, first_line, translated
from ordertrail.engines.spark.start import beginning
from ordertrail.errors import OrdertrailError, StorageError, UsageError

__all__ = ["DELTA_PACKAGE", "OURS", "SparkSession", "commit_of", "kept", "lost_for_good", "session_of", "spark_errors"]

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
"""Maven coordinates of Delta Lake's Java part, which the Python package does not bring."""

OURS: Mapping[str, str] = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Measured on two cores: of the 9 s of a small batch's MERGE, Delta's 50 snapshot partitions took 5 s.
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    # All cores share a data file, even if the table has few files.
    "spark.sql.files.maxPartitionBytes": "32m",
    # A pass has more than the 100 pieces of generated code that Spark keeps, and none would be left for the next pass:
    # of 49 s of processor time of a warm pass, Java's compilers took 13 s instead of 5 s.
    "spark.sql.codegen.cache.maxEntries": "2000",
    # A MERGE joins few rows of the target: they are hashed, not sorted.
    "spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold": "64m",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.log.level": "OFF",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}
"""Settings of a session that we start. `[spark.conf]` overrides them."""

_APP_ID = "spark.databricks.delta.write.txnAppId"
_VERSION = "spark.databricks.delta.write.txnVersion"
_METADATA = "spark.databricks.delta.commitInfo.userMetadata"


def session_of(config: Config) -> SparkSession:
    """The active session, used as it is, else one that we start; it lives as long as the process.

    Raises:
        UsageError: Spark is not installed, or cannot start.
    """
    if importlib.util.find_spec("pyspark") is None:
        raise UsageError(
            'engine = "spark" needs PySpark, which is not installed',
            hint='install it with pip install "ordertrail[spark]", or use engine = "embedded"',
        )
    startup.let_pandas_in()
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    # Executors use the interpreter in which ordertrail is installed.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(f"ordertrail {config.name}")
    conf = dict(config.spark.conf)
    if config.spark.remote:
        return _connected(builder.remote(config.spark.remote), conf)
    conf = {"spark.master": config.spark.master, **OURS, **conf}
    if not {"spark.jars", "spark.jars.packages"} & conf.keys():
        conf["spark.jars.packages"] = DELTA_PACKAGE
    with beginning(conf):
        return builder.config(map=dict[str, bool | float | int | str | None](conf)).getOrCreate()


def _connected(builder: SparkSession.Builder, conf: Mapping[str, str]) -> SparkSession:
    try:
        return builder.config(map=dict[str, bool | float | int | str | None](conf)).getOrCreate()
    except Exception as error:
        raise UsageError(
            f"cannot start a session with the Spark Connect server: {first_line(error)}",
            hint="check that the server runs and that spark.remote in the config is right",
        ) from error


@contextmanager
def commit_of(spark: SparkSession, app_id: str, batch: int, metadata: str) -> Iterator[bool]:
    """Make statements that write to a Delta table carry a `txn`; Delta skips a write whose `txn` the table has.

    These are session settings, so nothing else may be written within the block; afterwards they are restored. When a
    session does not allow them (serverless compute), a `MERGE` carries no `txn`, and the content of the tables tells
    what is done. Writes of DataFrames carry it all the same, by `options_of`.

    Args:
        spark: The session.
        app_id: The application id of the `txn`.
        batch: Its version.
        metadata: For the table's history.

    Yields:
        Whether statements carry the `txn`.
    """
    wanted = {_APP_ID: app_id, _VERSION: str(batch), _METADATA: metadata}
    before: dict[str, str | None] = {}
    carried = False
    try:
        with _refusals():
            for name, value in wanted.items():
                before[name] = spark.conf.get(name, None)
                spark.conf.set(name, value)
            carried = True
        yield carried
    finally:
        with _refusals():
            for name, old in before.items():
                if old is None:
                    spark.conf.unset(name)
                else:
                    spark.conf.set(name, old)


def options_of(app_id: str, batch: int, metadata: str) -> dict[str, str]:
    """Options by which the write of a DataFrame carries what `commit_of` gives to statements.

    Source: "Idempotent table writes in foreachBatch" and "Enrich tables with custom metadata" in the docs of Delta.
    """
    return {"txnAppId": app_id, "txnVersion": str(batch), "userMetadata": metadata}


@contextmanager
def _refusals() -> Iterator[None]:
    from pyspark.errors import PySparkException

    with suppress(PySparkException):
        yield


@contextmanager
def lost_for_good() -> Iterator[None]:
    """Make repeated loss of rows within the block a failure of the pass, which the next pass recovers from."""
    try:
        yield
    except RowsLostError as error:
        raise StorageError(f"{error}, again and again", hint="check the cluster, then run again") from error


def kept(rows: DataFrame) -> DataFrame:
    """Compute rows that are read more than once now and keep them; later plans begin with them.

    Not by `persist`: Spark compares every plan with those of all persisted rows, and these grow with every step. If a
    session cannot keep rows, they are computed again each time.

    Raises:
        RowsLostError: Later, when they are read after an executor that holds some of them has ended.
    """
    from pyspark.errors import PySparkException

    try:
        return rows.localCheckpoint()
    except PySparkException:
        return rows


@contextmanager
def spark_errors(doing: str) -> Iterator[None]:
    """Translate errors of Spark, Delta and the connection to them within the block into ours.

    Args:
        doing: The beginning of the message, such as `cannot stage the batch`.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (OrdertrailError, RowsLostError, FileNotFoundError):
        raise  # a missing file belongs to a table: `duckdb_errors` says to which
    except (PySparkException, Py4JError, ConnectionError) as error:
        raise translated(doing, error) from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise StorageError(f"{doing}: {reason}", hint="check the disk, then run again; nothing is lost") from error
