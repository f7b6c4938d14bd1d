"""Spark with Delta Lake on one machine: `local[2]`, in three ways to load a batch.

Needs Java, Maven (for Delta's jars, and what it is set up to download from) and the pyspark of the lock file. Both
ways read the CSV with a given schema and overwrite a stage table first, as the notebooks do; `load_s` is what follows:

- `merge`: MERGE, update what matches, insert the rest;
- `notebooks`: the notebooks' own code: a MERGE that deletes the matches, then an append; two commits;
- `engine`: ordertrail's engine `spark`, a whole pass, on a table that is a pipeline's; `stage`: its first steps;
  `named`: the same pass, where the session's catalog keeps the tables by name; `elsewhere`: and only Spark reads them.

A session is `tuned` for small work, has the `defaults` of Spark and Delta, or is the one that ordertrail's `engine`
begins by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import astuple, replace

from bench.report import ROOT, peak_mb
from ordertrail import Pipeline, load_config
from ordertrail.engines.spark import locations
from ordertrail.engines.spark.session import OURS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JARS = "ORDERTRAIL_BENCH_JARS"
"""Name of the variable with the folder of Delta's jars."""

DRIVER_MEMORY = "3g"
_SAME_KEY = "t.tracking_num = s.tracking_num"
_ANSWER = "@"
_SCHEMA = (
    "order_num STRING, tracking_num STRING, pck_recieved_date DATE, package_deliver_date DATE, status STRING, "
    "address STRING, last_update_timestamp TIMESTAMP"
)
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>bench</groupId><artifactId>bench</artifactId><version>1</version>
<dependencies><dependency>
<groupId>io.delta</groupId><artifactId>delta-spark_4.2_2.13</artifactId><version>4.4.0</version>
</dependency></dependencies></project>
"""
_SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": DRIVER_MEMORY,
    "spark.sql.session.timeZone": "UTC",
}
_NEEDED = (
    "spark.sql.extensions", "spark.sql.catalog.spark_catalog", "spark.driver.memory", "spark.driver.host",
    "spark.driver.bindAddress", "spark.sql.session.timeZone",
)  # fmt: skip
_MEMORY = {"spark.driver.memory": DRIVER_MEMORY}


def missing() -> str | None:
    """What Spark lacks on this machine, in words; None when it can run."""
    if find_spec("pyspark") is None or find_spec("delta") is None:
        return "pyspark and delta-spark are not installed"
    return next((f"there is no {tool}" for tool in ("java", "mvn") if shutil.which(tool) is None), None)


def about() -> dict[str, str]:
    """How Spark is set up, for the figures."""
    return {"master": "local[2]", **_SETTINGS}


@contextmanager
def workplace(given: Path | None) -> Iterator[Path]:
    """A folder to measure in, with Delta's jars for the sessions.

    Args:
        given: The folder, which stays; None for one that is removed in the end.

    Raises:
        SystemExit: Spark cannot run.
    """
    if (why := missing()) is not None:
        raise SystemExit(f"without Spark: {why}")
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as scratch:
        work = (given or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        fetch_jars(work / "jars")
        yield work


def fetch_jars(folder: Path) -> None:
    """Have Maven put Delta's jars into a folder, for its sessions; pyspark has all others."""
    folder.mkdir(parents=True, exist_ok=True)
    pom = folder / "pom.xml"
    pom.write_text(_POM, encoding="utf-8")
    wanted = ["-DincludeGroupIds=io.delta,io.unitycatalog", f"-DoutputDirectory={folder}"]
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", *wanted]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    os.environ[JARS] = str(folder)


class WarmSpark:
    """A Spark session that stays, in a process of its own: its start, and its first slow work, are on no clock.

    Args:
        folder: For its errors.
        session: `tuned`, `defaults` or `engine`.
        master: With how many cores.
    """

    def __init__(self, folder: Path, session: str = "tuned", master: str = "local[2]") -> None:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=f"spark-{session}-", delete=False) as errors:
            self._errors = Path(errors.name)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.spark", session, master],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
            )

    def load(self, way: str, table: Path, csv: Path) -> dict[str, object]:
        """Bring a batch into a table.

        Raises:
            RuntimeError: Spark has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([way, str(table), str(csv)]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                answer: dict[str, object] = json.loads(line.removeprefix(_ANSWER))
                return answer
        raise RuntimeError("Spark ended:\n" + self._errors.read_text(encoding="utf-8")[-4000:])

    def close(self) -> None:
        """End the session and its process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def alone(way: str, table: Path, csv: Path) -> dict[str, object]:
    """Start a session, bring one batch into a table, stop; the memory of the JVM, which is another process, is told."""
    began = time.perf_counter()
    spark = started()
    start_s = time.perf_counter() - began
    figures = _load(spark, way, table, csv)
    jvm_mb = peak_mb(_jvm(spark))
    spark.stop()
    return {**figures, "session_start_s": start_s, "other_process_peak_mb": jvm_mb}


def main() -> None:
    """Answer requests on stdin, a JSON list of way, table and CSV a line, until it closes."""
    spark = started(*sys.argv[1:])
    for line in sys.stdin:
        way, table, csv = json.loads(line)
        figures = _load(spark, way, Path(table), Path(csv))
        print(_ANSWER + json.dumps(figures), flush=True)
    spark.stop()


def started(kind: str = "tuned", master: str = "local[2]") -> SparkSession:
    """A session in this process; variable `JARS` has to name the folder of Delta's jars.

    Args:
        kind: `tuned`, `defaults` or `engine`.
        master: With how many cores.
    """
    from pyspark.sql import SparkSession

    jars = sorted(str(path) for path in Path(os.environ[JARS]).glob("*.jar"))
    builder = SparkSession.builder.master(master).appName("bench")
    scratch = tempfile.gettempdir()
    own = {"tuned": _SETTINGS, "defaults": {name: _SETTINGS[name] for name in _NEEDED}, "engine": {**OURS, **_MEMORY}}
    settings = {**own[kind], "spark.jars": ",".join(jars), "spark.sql.warehouse.dir": f"{scratch}/spark-warehouse"}
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def _load(spark: SparkSession, way: str, table: Path, csv: Path) -> dict[str, object]:
    if way in ("engine", "named", "elsewhere", "stage"):
        return _pass(spark, table, way)
    from delta.tables import DeltaTable

    place, stage = str(table), str(table.with_name(table.name + "-stage"))
    began = time.perf_counter()
    rows = spark.read.csv(str(csv), header=True, schema=_SCHEMA)
    rows.write.format("delta").mode("overwrite").save(stage)
    staged_s = time.perf_counter() - began
    batch = spark.read.format("delta").load(stage)
    merge = DeltaTable.forPath(spark, place).alias("t").merge(batch.alias("s"), _SAME_KEY)
    match way:
        case "merge":
            merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
        case "notebooks":
            merge.whenMatchedDelete().execute()
            batch.write.format("delta").mode("append").save(place)
        case _:
            raise ValueError(f"no such way: {way}")
    whole_s = time.perf_counter() - began
    return {"load_s": whole_s - staged_s, "whole_s": whole_s}


def _pass(spark: SparkSession, table: Path, way: str) -> dict[str, object]:
    """A pass of ordertrail's engine, or its first steps, on the session that is there; the files are in the source."""
    config = load_config(table / "ordertrail.toml", environ={})
    if way in ("named", "elsewhere"):
        if way == "elsewhere":
            locations.folder_at = lambda _: None
        for name in astuple(config.tables):
            place = config.table_path(name)
            spark.sql(f"CREATE TABLE IF NOT EXISTS {config.schema}.{name} USING delta LOCATION '{place}'")
        config = replace(config, spark=replace(config.spark, tables="two-level"))
    began = time.perf_counter()
    pipeline = Pipeline(replace(config, engine="spark"))
    report = pipeline.stage() if way == "stage" else pipeline.run()
    whole_s = time.perf_counter() - began
    counts = {"inserted": report.rows.inserted, "updated": report.rows.updated}
    return {"load_s": report.seconds["load"], "whole_s": whole_s, **counts, "steps_s": dict(report.seconds)}


def _jvm(spark: SparkSession) -> int:
    """Process id of the session's JVM: `spark-submit` becomes it by `exec`."""
    gateway = spark.sparkContext._gateway
    assert gateway is not None
    return int(gateway.proc.pid)


if __name__ == "__main__":
    main()
