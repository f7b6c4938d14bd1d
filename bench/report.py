"""What every measurement shares: the machine it ran on, processes timed from outside, results as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Timed:
    """One process, from start to end.

    Attributes:
        wall_s: Seconds on the clock.
        cpu_s: Seconds of processor time, all threads.
        peak_mb: The most resident memory it had, in MB (10^6 bytes).
        output: What it printed.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    output: str


_LAUNCH = """
import os, sys, time
began = time.perf_counter()
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(process, 0)
took = time.perf_counter() - began
print()
print(took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status), flush=True)
"""
"""Starts a process and times it. It is small: the kernel counts the memory of who starts a process as that one's."""


def timed(code: str, arguments: Sequence[str]) -> Timed:
    """Run Python code in a process of its own.

    Raises:
        RuntimeError: The process failed.
    """
    return timed_command([sys.executable, "-c", code, *arguments])


def timed_command(words: Sequence[str], allowed: Sequence[int] = (0,)) -> Timed:
    """Run a command in a process of its own, with compiled modules kept from one run to the next, as usual.

    Args:
        words: The program's path, and its arguments.
        allowed: The exit codes with which it may end.

    Raises:
        RuntimeError: The process failed.
    """
    launch = [sys.executable, "-S", "-E", "-c", _LAUNCH, *words]
    found = subprocess.run(launch, capture_output=True, text=True, cwd=ROOT, env=environment(), check=False)
    output, _, last = found.stdout.rstrip().rpartition("\n")
    wall_s, cpu_s, peak_kib, exit_code = last.split()
    if int(exit_code) not in allowed:
        raise RuntimeError(f"the process ended with {exit_code}:\n{found.stderr[-4000:]}")
    return Timed(float(wall_s), float(cpu_s), int(peak_kib) * 1.024 / 1000, output.rstrip())


def peak_mb(process_id: int) -> float:
    """The most resident memory that a running process has had so far, in MB (10^6 bytes)."""
    return memory_mb(process_id, "VmHWM")


def memory_mb(process_id: int, what: str = "VmRSS") -> float:
    """Memory of a running process, in MB (10^6 bytes).

    Args:
        process_id: Of the process.
        what: A line of `/proc/<process>/status`: `VmRSS` is what is resident now, `RssAnon` its data, `RssFile` the
            code and files that are mapped.
    """
    lines = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) * 1.024 / 1000


def environment() -> dict[str, str]:
    """That of a process to measure: compiled modules are kept from one run to the next, as usual."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def summary(runs: Sequence[Timed]) -> dict[str, object]:
    """Medians of some runs, and the runs."""
    return {
        "median_wall_s": round(statistics.median(run.wall_s for run in runs), 2),
        "median_cpu_s": round(statistics.median(run.cpu_s for run in runs), 2),
        "peak_mb": round(max(run.peak_mb for run in runs)),
        "wall_s": [round(run.wall_s, 2) for run in runs],
    }


def save(name: str, figures: Mapping[str, object]) -> None:
    """Write `bench/results/<name>.json` and print the figures."""
    print(write(name, figures))


def write(name: str, figures: Mapping[str, object]) -> str:
    """Write `bench/results/<name>.json`; its text."""
    document = {"measured_at": measured_at(), "machine": machine(), **figures}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return text


def measured_at() -> str:
    """The time now, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine() -> dict[str, object]:
    """Cores, and the versions that matter."""
    packages = ("duckdb", "deltalake", "pyarrow", "numpy", "polars", "pyspark", "delta-spark")
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
        "python": platform.python_version(),
        "load_average_1_min": round(os.getloadavg()[0], 1),
        **{package: _version(package) for package in packages},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
