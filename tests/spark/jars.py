"""Fetch the Java part of Delta Lake for the tests of this folder: `python -m tests.spark.jars` (`make spark-jars`).

The Python package `delta-spark` has no jar. Spark brings its own resolver of packages (Ivy), so that a machine with
Java needs nothing else. Each jar is what its SHA-256 here says it is, or it is not used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(sys.prefix) / "spark-jars"
"""Where the jars are kept: inside the virtual environment, so that `make clean` takes them away too."""

PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"

SHA256 = {
    "delta-kernel-api-4.4.0.jar": "ee9b5a14ac3b7efdff4d61a58478fe8eb0e5a3fbca43889dca7290795fe79a11",
    "delta-kernel-defaults-4.4.0.jar": "225c975199e4718b38ee5b7e6da7f19e9585024262b2cec2656b32151a856b0b",
    "delta-kernel-unitycatalog-4.4.0.jar": "cea22dfb4ac562b3cd27bf652697750e8336009d73fb06631363aaaad5345ffa",
    "delta-spark_4.2_2.13-4.4.0.jar": "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead",
    "delta-storage-4.4.0.jar": "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
    "unitycatalog-client-0.6.0.jar": "48257499a86b801a3e2372cec55ac226ca1c1c7eabe5c118e7302f29a1fdbc19",
    "unitycatalog-hadoop-0.6.0.jar": "c47b63c961c87102b9e1d63809a0915ba4c86b7652f57c8d39ca3a05b441a150",
}

OLDEST_JAVA = 17
NO_JAVA = f"Spark needs Java {OLDEST_JAVA} or newer; on Debian and Ubuntu: apt install openjdk-17-jre-headless"

_OTHER_GROUPS = ("org", "com", "net", "javax", "jakarta", "commons*")
_RESOLVE = """
import sys
from pyspark.sql import SparkSession
options = dict(option.split("=", 1) for option in sys.argv[1:])
builder = SparkSession.builder.master("local[1]").config(map=options)
builder.getOrCreate().stop()
"""
_TRIES = 3


def java_problem() -> str | None:
    """Why Spark cannot run on this machine, with what to do about it; None when it can."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None:
        return NO_JAVA
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return f"{NO_JAVA} ({java} does not run)"
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        return f"{NO_JAVA} ({java} is older)"
    return None


def jars() -> list[Path]:
    """The jars, all of them there and whole; an empty list when they are not."""
    found = [FOLDER / name for name in SHA256]
    return found if all(path.is_file() and _sha256(path) == SHA256[path.name] for path in found) else []


def fetch() -> None:
    """Let Spark resolve the package in an empty folder, and keep the jars that are what they must be.

    Raises:
        SystemExit: They cannot be fetched, or one of them is another file.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for left in reversed(range(_TRIES)):
            done = subprocess.run(
                _command(Path(scratch)), env=_environment(Path(scratch)), capture_output=True, text=True
            )
            if done.returncode == 0:
                break
            if not left:
                sys.exit(f"cannot fetch {PACKAGE}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        FOLDER.mkdir(parents=True, exist_ok=True)
        for path in Path(scratch).glob("ivy/jars/*.jar"):
            name = path.name.partition("_")[2]
            if SHA256.get(name) != (digest := _sha256(path)):
                sys.exit(f"{name} has the SHA-256 {digest}, which is not the one in {__file__}")
            shutil.copyfile(path, FOLDER / name)
    if not jars():
        sys.exit(f"{PACKAGE} did not bring all of {', '.join(SHA256)}")


def _command(scratch: Path) -> list[str]:
    options = {
        "spark.jars.packages": PACKAGE,
        "spark.jars.excludes": ",".join(f"{group}{'' if '*' in group else '.*'}:*" for group in _OTHER_GROUPS),
        "spark.jars.ivy": str(scratch / "ivy"),
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    return [sys.executable, "-c", _RESOLVE, *(f"{name}={value}" for name, value in options.items())]


def _environment(scratch: Path) -> dict[str, str]:
    # With a home of its own it meets no half-filled cache of Maven, over which Ivy stumbles.
    return {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SUBMIT_OPTS": f"-Duser.home={scratch}"}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    if (problem := java_problem()) is not None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            sys.exit(f"CI must run the tests with Spark. {problem}")
        print(f"The tests with Spark will be skipped. {problem}", file=sys.stderr)
    elif not jars():
        print(f"Fetching {PACKAGE}, once", file=sys.stderr)
        fetch()
