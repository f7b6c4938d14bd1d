"""Commands that people wait for, as whole processes on big tables, and what of each is Python's start and imports.

`python -m bench.start_up [--rows 10m] [--rounds 9] [--work DIR]`. The commands take turns, so that a slow moment of the
machine meets all of them. What `python -X importtime` says is summed up by package, in a run of its own: the clock that
it keeps costs time itself, so read the shares.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import tables
from bench.report import Timed, environment, save, timed_command
from bench.upsert import sizes
from bench.watch import existing_key

BUDGET_S = 0.25
"""What a command that only reads may take, in seconds."""

KNOWN = 1_234_567
COMMANDS: Mapping[str, Sequence[str]] = {
    "health": ("health",),
    "status": ("status",),
    "track, a known number": ("track", existing_key(KNOWN)),
    "track, an unknown number": ("track", "NO-SUCH-NUMBER"),
    "rejects": ("rejects",),
    "run, nothing to do": ("run",),
}
UNKNOWN_EXIT = 1
"""The exit code of `track` when there is no such shipment."""

_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)")


def measure(folder: Path, rounds: int) -> dict[str, object]:
    """Time all commands in turns.

    Args:
        folder: Of a pipeline.
        rounds: How many.

    Returns:
        By command: medians, peak memory, and milliseconds of imports by package.
    """
    python, config = [sys.executable, "-m", "ordertrail"], ["--config", str(folder / "ordertrail.toml")]
    runs: dict[str, list[Timed]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, words in COMMANDS.items():
            one = timed_command([*python, *words, *config], allowed=(0, UNKNOWN_EXIT))
            if number > 0:  # the first warms the caches
                runs[name].append(one)
    return {
        name: _entry(runs[name]) | {"imports_ms": imports_ms(python, [*COMMANDS[name], *config])} for name in COMMANDS
    }


def imports_ms(python: Sequence[str], words: Sequence[str]) -> dict[str, float]:
    """What a command imports, by package, in milliseconds; all of the standard library is one package."""
    command = [python[0], "-X", "importtime", *python[1:], *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    by_package: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        if found := _IMPORTED.match(line):
            top = found[2].partition(".")[0]
            own = "standard library" if top in sys.stdlib_module_names else top.lstrip("_")
            by_package[own] += int(found[1])
    small = sum(us for us in by_package.values() if us < 1000)
    shown = {name: round(us / 1000, 1) for name, us in by_package.most_common() if us >= 1000}
    return {"all": round(by_package.total() / 1000, 1), **shown, "below 1 ms": round(small / 1000, 1)}


def _entry(runs: Sequence[Timed]) -> dict[str, object]:
    wall_s = statistics.median(run.wall_s for run in runs)
    return {
        "median_wall_s": round(wall_s, 3),
        "median_cpu_s": round(statistics.median(run.cpu_s for run in runs), 3),
        "within_budget": wall_s <= BUDGET_S,
        "peak_mb": round(max(run.peak_mb for run in runs)),
        "wall_s": [round(run.wall_s, 3) for run in runs],
    }


def main() -> None:
    """Measure, and keep the figures in `bench/results/start_up.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=sizes, default=[10_000_000], help="of the target: 10m")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--work", type=Path, help="a folder to keep the built tables in, for the next command")
    options = parser.parse_args()
    rows = options.rows[0]
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as scratch:
        work: Path = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        base = work.resolve() / f"base-{rows}-random"
        tables.build(base, {"ordertrail"}, rows, ascending=False)
        folder = work.resolve() / "started"
        shutil.rmtree(folder, ignore_errors=True)
        tables.copy(base / "ordertrail", folder)
        save("start_up", {"rows": rows, "budget_s": BUDGET_S, "commands": measure(folder, options.rounds)})


if __name__ == "__main__":
    main()
