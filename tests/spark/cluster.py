"""A pass on a cluster of processes: `python -m tests.spark.cluster FOLDER plain|kill`; the report's batch is printed.

Spark is what ordertrail begins by itself from `[spark]`: a master and two workers on this machine, each executor a
process. With `kill` one executor is killed -9 while the batch is staged.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from ordertrail.config import SparkSettings
from tests.feeds import FEED_LIMITS, FEED_VENDORS
from tests.harness import House, open_house
from tests.spark.jars import jars
from tests.spark.session import BRIEFLY

MASTER = "local-cluster[2,1,1024]"
SETTINGS = {
    "spark.jars": ",".join(map(str, jars())),
    "spark.driver.memory": "1g",
    "spark.executor.memory": "700m",
    "spark.executor.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    **BRIEFLY,
}


def house_of(folder: Path) -> House:
    """The pipeline, its batches parsed and weighed by executors."""
    settings = SparkSettings(master=MASTER, driver_max_bytes=0, conf=tuple(sorted(SETTINGS.items())))
    return open_house(folder, engine="spark", vendors=FEED_VENDORS, **FEED_LIMITS, spark=settings)


def driver_port() -> str:
    """Where the executors of this process's Spark reach it; asked of the thread that began the session."""
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    assert session is not None
    return str(session.conf.get("spark.driver.port"))


def executors(port: str) -> list[int]:
    """Process ids of the executors of a driver."""
    mark = f":{port}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if b"CoarseGrainedExecutorBackend" in words and mark in words and b"--executor-id" in words:
            found.append(int(place.name))
    return found


def kill_one_soon(killed: list[int]) -> None:
    """In a moment, while Spark is at work."""
    port = driver_port()

    def kill() -> None:
        if running := executors(port):
            killed.append(running[0])
            os.kill(running[0], signal.SIGKILL)

    threading.Timer(0.4, kill).start()


def main() -> None:
    """Run the pass."""
    house, kills = house_of(Path(sys.argv[1])), sys.argv[2] == "kill"
    killed: list[int] = []

    def probe(name: str) -> None:
        if kills and name == "stage.files":
            kill_one_soon(killed)

    report = house.run(probe)
    time.sleep(0.5)
    assert bool(killed) == kills
    print(f"batch {report.batch} of {report.rows.parsed} rows, {len(set(killed))} executors killed", flush=True)


if __name__ == "__main__":
    main()
