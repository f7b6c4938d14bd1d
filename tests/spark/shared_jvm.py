"""One JVM for all workers of a run: what its compilers learn from one worker's queries serves the others too.

Measured, a JVM of the tests spends two fifths of its processor time compiling bytecode, and as long again interpreting
what is not yet compiled. Each worker has a session, a catalog and a warehouse of its own in it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.find_spark_home import _find_spark_home
from pyspark.serializers import UTF8Deserializer, read_int

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

START_S = 120
"""How long a JVM may take to say where it listens."""

_held: list[object] = []
"""What keeps the JVM alive, open files first: it ends when the last process that holds one has ended."""


def session_in(place: Path, settings: Mapping[str, str], warehouse: Path) -> SparkSession:
    """A session in the JVM of a run, which the first worker that asks starts.

    Args:
        place: A folder of the run, the same for all its workers.
        settings: Of the JVM and of every session in it.
        warehouse: A new folder, for this session's tables without a path.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    port, secret = _connection(place, settings)
    # Processes that a test starts must not find these: they start a JVM of their own.
    with _environment(PYSPARK_GATEWAY_PORT=str(port), PYSPARK_GATEWAY_SECRET=secret):
        gateway = launch_gateway()
    jvm: Any = gateway.jvm
    conf = SparkConf(_jvm=jvm)
    context = jvm.org.apache.spark.SparkContext.getOrCreate(conf._jconf)
    java = jvm.JavaSparkContext.fromSparkContext(context)
    options = jvm.java.util.HashMap()
    options.put("spark.sql.warehouse.dir", str(warehouse))
    sessions = getattr(jvm, "org.apache.spark.sql.classic.SparkSession")
    # Made anew and not by `newSession`, which would share the catalog.
    return SparkSession(SparkContext(conf=conf, gateway=gateway, jsc=java), sessions(context, options))


def _connection(place: Path, settings: Mapping[str, str]) -> tuple[int, str]:
    """Port and secret of the run's JVM."""
    place.mkdir(exist_ok=True)
    alive, said = place / "alive", place / "connection"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            os.mkfifo(alive)
            _held.append(os.open(alive, os.O_RDWR))
            _start(alive, said, settings)
        else:
            _held.append(os.open(alive, os.O_WRONLY))
    with said.open("rb") as info:
        return read_int(info), UTF8Deserializer().loads(info)


def _start(alive: Path, said: Path, settings: Mapping[str, str]) -> None:
    """Start a JVM that ends when nobody holds `alive` open for writing; it writes port and secret into `said`."""
    conf: Sequence[str] = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    command = [f"{_find_spark_home()}/bin/spark-submit", *conf, "pyspark-shell"]
    env = {**os.environ, "SPARK_CONNECT_MODE": "0", "_PYSPARK_DRIVER_CONN_INFO_PATH": str(said)}
    with open(os.open(alive, os.O_RDONLY | os.O_NONBLOCK)) as reading:
        os.set_blocking(reading.fileno(), True)
        process = subprocess.Popen(command, stdin=reading, env=env, start_new_session=True)
    _held.append(process)
    until = time.monotonic() + START_S
    while not said.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("Spark's JVM has not started")
        time.sleep(0.05)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
