"""A Spark session for the engine: an existing one as it is, else one of our own, quick for small batches.

This and the other `spark_*` modules are the only ones that import Spark.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ordertrail import without_pandas
from ordertrail.config import Config
from ordertrail.errors import (
    CommitConflictError,
    CommitUnknownError,
    OrdertrailError,
    StorageError,
    TableError,
    UnsupportedTableError,
    UsageError,
)
from ordertrail.rules.secrets import masked

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
"""Maven coordinates of Delta Lake's Java part, which the Python package does not bring."""

OURS: Mapping[str, str] = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Measured on two cores: of 9 s for the MERGE of a small batch Delta's 50 partitions of a snapshot took 5.
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    # A data file is shared by all cores, also where the table has few.
    "spark.sql.files.maxPartitionBytes": "32m",
    # The few rows of the target that a MERGE joins are hashed, not sorted.
    "spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold": "64m",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.log.level": "OFF",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}
"""Settings of a session that we begin. What `[spark.conf]` says goes before them."""

MOVED = "ordertrail: the target was written meanwhile"
"""What a MERGE fails with when the target is no longer what the outcomes were worked out against."""

_APP_ID = "spark.databricks.delta.write.txnAppId"
_VERSION = "spark.databricks.delta.write.txnVersion"
_METADATA = "spark.databricks.delta.commitInfo.userMetadata"

_LOST = "Checkpoint block"
_CONFLICT = re.compile(r"DELTA_CONCURRENT_|Concurrent(Append|Delete\w+|Write|Transaction)Exception|FileAlreadyExists")
_STORAGE = re.compile(r"No space left|Read-only file system|Permission denied|Input/output error|Too many open files")
_GONE = re.compile(r"Connection (refused|reset)|Answer from Java side is empty|Py4JNetworkError|StatusCode.UNAVAILABLE")


def session_of(config: Config) -> SparkSession:
    """The active session, used as it is; else one that we begin. It lives as long as the process.

    Raises:
        UsageError: Spark is not installed, or cannot begin.
    """
    if importlib.util.find_spec("pyspark") is None:
        raise UsageError(
            'engine = "spark" needs PySpark, which is not installed',
            hint='install it with pip install "ordertrail[spark]", or use engine = "embedded"',
        )
    without_pandas.let_in()
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    # Executors run the interpreter that ordertrail is installed in.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(f"ordertrail {config.name}")
    conf = dict(config.spark.conf)
    if config.spark.remote:
        builder = builder.remote(config.spark.remote)
    else:
        builder = builder.master(config.spark.master)
        conf = {**OURS, **conf}
        if not {"spark.jars", "spark.jars.packages"} & conf.keys():
            conf["spark.jars.packages"] = DELTA_PACKAGE
    try:
        return builder.config(map=dict[str, bool | float | int | str | None](conf)).getOrCreate()
    except Exception as error:
        raise UsageError(
            f"Spark does not begin: {_first_line(error)}",
            hint="see that Java 17 is installed (ordertrail doctor) and that [spark] in the config is right",
        ) from error


@contextmanager
def commit_of(spark: SparkSession, app_id: str, batch: int, metadata: str) -> Iterator[None]:
    """Within: writes to a Delta table carry a `txn`, and one that the table has already is left out by Delta.

    Session settings, so nothing else may be written within; they are as they were afterwards. Where a session does not
    let them be set (serverless compute) the writes carry none, and what the tables hold tells what is done.

    Args:
        spark: The session.
        app_id: Of the `txn`.
        batch: Its version.
        metadata: For the table's history.
    """
    wanted = {_APP_ID: app_id, _VERSION: str(batch), _METADATA: metadata}
    before: dict[str, str | None] = {}
    try:
        with _refusals():
            for name, value in wanted.items():
                before[name] = spark.conf.get(name, None)
                spark.conf.set(name, value)
        yield
    finally:
        with _refusals():
            for name, old in before.items():
                if old is None:
                    spark.conf.unset(name)
                else:
                    spark.conf.set(name, old)


@contextmanager
def _refusals() -> Iterator[None]:
    from pyspark.errors import PySparkException

    with suppress(PySparkException):
        yield


class RowsLostError(Exception):
    """For the engine alone: rows that Spark kept went with their executor; they can be worked out again."""


@contextmanager
def lost_for_good() -> Iterator[None]:
    """Within: rows that are lost once more are a failure of the pass, which the next one makes good."""
    try:
        yield
    except RowsLostError as error:
        raise StorageError(f"{error}, again and again", hint="see to the cluster, then run again") from error


def kept(rows: DataFrame) -> DataFrame:
    """Rows that are read more than once, worked out now and kept; what is built on them begins with them.

    Not `persist`: Spark compares every plan with those of all persisted rows, and these grow with every step. Where a
    session does not keep rows they are worked out again each time.

    Raises:
        RowsLostError: Later, where they are read, when an executor with some of them has ended.
    """
    from pyspark.errors import PySparkException

    try:
        return rows.localCheckpoint()
    except PySparkException:
        return rows


@contextmanager
def spark_errors(doing: str) -> Iterator[None]:
    """Translate the errors of Spark, Delta and the way to them into ours.

    Args:
        doing: What was going on, to begin the message with.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (OrdertrailError, RowsLostError):
        raise
    except (PySparkException, Py4JError, ConnectionError) as error:
        raise _translated(doing, error) from error
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise StorageError(f"{doing}: {reason}", hint="see to the disk, then run again; nothing is lost") from error


def _translated(doing: str, error: Exception) -> OrdertrailError | RowsLostError:
    text = f"{type(error).__name__} {error}"
    if MOVED in text or _CONFLICT.search(text):
        return CommitConflictError(f"{doing}: the table was written by somebody else meanwhile", hint="run again")
    if "DELTA_UNSUPPORTED_FEATURES" in text:
        return UnsupportedTableError(f"{doing}: {_first_line(error)}", hint="the table was not touched")
    if _LOST in text:
        return RowsLostError(f"{doing}: an executor has ended")
    if isinstance(error, ConnectionError) or _GONE.search(text):
        return CommitUnknownError(
            f"{doing}: Spark went away: {_first_line(error)}", hint="run again: the next pass looks what was committed"
        )
    if (found := _STORAGE.search(text)) is not None:
        return StorageError(f"{doing}: {found[0]}", hint="see to the storage, then run again; nothing is lost")
    return TableError(f"{doing}: {_first_line(error)}", hint="run again; if it stays, see Spark's own log")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return masked(lines[0])[:500] if lines else type(error).__name__
