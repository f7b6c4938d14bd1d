"""The key index alone: look up, extend, open and merge, in an index of many entries.

`python -m bench.key_index [--entries 10000000] [--keys 100000]` prints and saves `bench/results/key_index.json`, one
part for each number of entries. 100 million entries need 5.7 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.report import RESULTS, save, timed
from ordertrail.keyindex.index import ENTRY, Covered, KeyIndex

FINGERPRINT = "bench"
SMALL_RUNS = 20
ROUNDS = 15

_LOOK_UP = """
import sys
from bench.key_index import look_up
look_up(sys.argv[1], int(sys.argv[2]))
"""


def random_entries(rng: np.random.Generator, rows: int) -> NDArray[np.void]:
    """Entries of one file with random hashes, in the order of its rows."""
    entries = np.zeros(rows, ENTRY)
    for half in ("upper", "lower"):
        entries[half] = rng.integers(0, 2**64, rows, np.uint64)
    entries["row"] = np.arange(rows)
    entries["revision"] = 1
    return entries


def build(folder: Path, rows: int, keys: int) -> float:
    """One run of many entries, written in parts, and a file of keys of which half are in it; seconds."""
    rng = np.random.default_rng(1)
    parts = max(1, rows // 1_000_000)
    sizes = np.diff(np.linspace(0, rows, parts + 1).astype(np.int64))
    wanted = random_entries(rng, keys)
    first, hit, seconds = 0, 0, 0.0
    index = KeyIndex(folder, FINGERPRINT)
    began = time.perf_counter()
    with index.writer([Covered("base.parquet", 1, rows)]) as writer:
        for part, size in enumerate(sizes.tolist()):
            pause = time.perf_counter()
            entries = random_entries(rng, size)
            width = 2**64 // parts
            entries["upper"] = np.sort(entries["upper"] % np.uint64(width)) + np.uint64(part * width)
            entries["row"] += np.uint32(first)
            first += size
            hits = keys // 2 * (part + 1) // parts - hit
            wanted[hit : hit + hits] = rng.choice(entries, hits, replace=False)
            hit += hits
            seconds -= time.perf_counter() - pause
            writer.append(entries)
    seconds += time.perf_counter() - began
    index.close()
    np.save(folder / "wanted.npy", rng.permutation(wanted))
    return seconds


def look_up(folder: str, expected: int) -> None:
    """Print seconds to open an index and to find the keys in it: the first time, and the median of some."""
    wanted = np.load(Path(folder, "wanted.npy"))
    upper, lower = wanted["upper"].copy(), wanted["lower"].copy()
    began = time.perf_counter()
    index = KeyIndex(Path(folder), FINGERPRINT)
    opened_s = time.perf_counter() - began
    times, cpu = [], []
    for _ in range(ROUNDS):
        began, began_cpu = time.perf_counter(), time.process_time()
        found = index.find(upper, lower)
        times.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
        assert len(found.query) == expected, f"{len(found.query)} found of {expected}"
        assert (wanted["row"][found.query] == found.row).all()
    figures = {"open_s": opened_s, "first_s": times[0], "find_s": statistics.median(times), "least_s": min(times)}
    print(json.dumps({**figures, "cpu_s": statistics.median(cpu)}))


def measured(folder: Path, keys: int) -> dict[str, object]:
    """Figures of `look_up` in a process of its own."""
    run = timed(_LOOK_UP, [str(folder), str(keys // 2)])
    figures = {name: round(value, 4) for name, value in json.loads(run.output).items()}
    return {**figures, "peak_mb": round(run.peak_mb)}


def seconds_of(work: Callable[[], None]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def figures(rows: int, keys: int, parent: Path | None) -> dict[str, object]:
    """Build an index, measure, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="key-index-", dir=parent))
    try:
        build_s = build(folder, rows, keys)
        alone = measured(folder, keys)
        rng = np.random.default_rng(2)
        index = KeyIndex(folder, FINGERPRINT)
        writes = []
        for number in range(SMALL_RUNS):
            entries = random_entries(rng, keys)
            file = Covered(f"small-{number}.parquet", 1, keys)
            writes.append(seconds_of(lambda file=file, entries=entries: index.write([file], entries)))
        many = measured(folder, keys)
        tidy_s = seconds_of(lambda: index.tidy(index.covered))
        tidied = measured(folder, keys)
        index.close()
        return {
            "load_average_1_min": round(os.getloadavg()[0], 1),
            "build_s": round(build_s, 2),
            "base_alone": alone,
            "write_s": round(statistics.median(writes), 4),
            f"with_{SMALL_RUNS}_small_runs": many,
            "tidy_s": round(tidy_s, 3),
            "tidied": tidied,
        }
    finally:
        shutil.rmtree(folder)


def main(arguments: list[str]) -> None:
    """Measure one size and save it beside the others."""
    parser = argparse.ArgumentParser(prog="python -m bench.key_index", description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the index is built; default: the folder for temporary files")
    chosen = parser.parse_args(arguments)
    earlier = RESULTS / "key_index.json"
    sizes = json.loads(earlier.read_text(encoding="utf-8"))["entries"] if earlier.exists() else {}
    sizes[str(chosen.entries)] = {"keys": chosen.keys, **figures(chosen.entries, chosen.keys, chosen.folder)}
    save("key_index", {"entries": sizes})


if __name__ == "__main__":
    main(sys.argv[1:])
