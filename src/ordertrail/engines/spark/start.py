"""Starts the JVM of a Spark session, holds back its output during the start, and reports why it does not start.

Fetching packages alone prints some hundred lines on the standard error. Once Spark runs, the JVM's output is passed on.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from ordertrail.engines.spark.causes import first_line
from ordertrail.errors import UsageError
from ordertrail.rules.secrets import masked

_MAX_LINES = 1000
_STDERR = 2
# The message of Ivy, Spark's package resolver: `unresolved dependency: io.delta#delta-spark_4.2_2.13;4.4.0: not found`.
_UNRESOLVED = re.compile(r"unresolved dependency: ([^#\s]+)#([^;\s]+);([^:\s\]]+)")
_NO_JAVA = re.compile(
    r"JAVA_HOME is not set|java: (command )?not found|bin/java: No such file|cannot execute|UnsupportedClassVersion"
)
_REASON = re.compile(r"^(?:Exception in thread \"[^\"]*\" |Error: |.*\bCaused by: )(.*\S)")
_JAVA_HINT = "see that Java 17 or newer is installed and JAVA_HOME names it, if it is set (ordertrail doctor)"


@contextmanager
def beginning(conf: Mapping[str, str]) -> Iterator[None]:
    """Start the JVM for a session that begins within the block, with its output held back.

    Args:
        conf: Settings with which the JVM starts.

    Raises:
        UsageError: Spark does not start; says why.
    """
    held = _Held()
    try:
        _start_jvm(conf, held)
        yield
    except Exception as error:
        raise why_not(error, held.end()) from error
    held.pass_on()


def why_not(error: Exception, lines: Sequence[str]) -> UsageError:
    """Why Spark does not start, with what to do.

    Args:
        error: An error of PySpark.
        lines: The output of the JVM.
    """
    text = "\n".join(lines)
    packages = list(dict.fromkeys(":".join(found) for found in _UNRESOLVED.findall(text)))
    if packages:
        return UsageError(
            f"Spark does not begin: it cannot fetch {', '.join(packages)} from a repository of Maven packages",
            hint="see that this machine reaches one (spark.jars.repositories names others); or bring the jars yourself "
            'and name them in the config: [spark.conf] "spark.jars" = "/path/one.jar,/path/two.jar"',
        )
    if _NO_JAVA.search(text) or isinstance(error, FileNotFoundError):
        return UsageError("Spark does not begin: there is no Java that it runs on", hint=_JAVA_HINT)
    reason = next((found[1] for line in lines if (found := _REASON.match(line))), None)
    said = masked(reason) if reason else first_line(error)
    return UsageError(f"Spark does not begin: {said}", hint=f"see that [spark] in the config is right; {_JAVA_HINT}")


def _start_jvm(conf: Mapping[str, str], held: _Held) -> None:
    """Start the JVM that PySpark's classes in this process will use, unless one is already running."""
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    if SparkContext._gateway is not None:
        return
    settings = SparkConf(loadDefaults=False).setAll(list(conf.items()))
    try:
        gateway = launch_gateway(settings, {"stderr": held.write})  # type: ignore[no-untyped-call]
    finally:
        held.close_ours()
    SparkContext._ensure_initialized(gateway=gateway, conf=settings)


class _Held:
    """The standard error of a JVM."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        self._lines: deque[bytes] = deque(maxlen=_MAX_LINES)
        self._passing = threading.Event()
        self._open = True
        self._pump = threading.Thread(target=self._run, name="ordertrail-jvm-stderr", daemon=True)
        self._pump.start()

    def close_ours(self) -> None:
        """Close our copy of the end that the JVM writes to. Idempotent."""
        if self._open:
            self._open = False
            os.close(self.write)

    def pass_on(self) -> None:
        """Send the JVM's output to our standard error from here on; drop what it wrote until now."""
        self._passing.set()
        self.close_ours()

    def end(self) -> list[str]:
        """The output of the JVM, which has ended or writes nothing more of use."""
        self.close_ours()
        self._pump.join(timeout=1.0)
        self._passing.set()
        return [line.decode(errors="replace").rstrip() for line in self._lines]

    def _run(self) -> None:
        with os.fdopen(self._read, "rb") as stream:
            for line in stream:
                if not self._passing.is_set():
                    self._lines.append(line)
                    continue
                with suppress(OSError):
                    os.write(_STDERR, line)
