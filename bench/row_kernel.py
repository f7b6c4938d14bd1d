"""The row kernel alone, on plain and on careful files: rows a second, against another tree, and what gzip adds.

`python -m bench.row_kernel [--rows 1000000] [--rounds 5] [--against TREE]`. Each reading is a process of its own that
reads one file from memory three times with the threads of a pass; its median counts. Plain files are read in turns with
those of the other work tree. What is compared is processor time, which a busy machine distorts less than the clock;
both are in the results.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.feed import big_file
from bench.nasty_files import CONFIG, PASS
from bench.report import ROOT, save, timed

READ = """
import io, os, statistics, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import pyarrow as pa
from ordertrail.config import parse_config
from ordertrail.model import Vendor
from ordertrail.parse.database import connect
from ordertrail.parse.kernel import Kernel, KernelFile
from ordertrail.rules.headers import map_header

path, settings, explain = sys.argv[1], eval(sys.argv[2]), sys.argv[3] == "explain"
config = parse_config('[pipeline]\\nsource = "a"\\narchive = "b"\\nwarehouse = "c"\\n', base=Path("/"), environ={})
contract, vendor, data = config.contract, Vendor("default", **settings), Path(path).read_bytes()
folder = Path(tempfile.mkdtemp())
con = connect(2, 2048, folder / "spill")
files = pa.table({"d": pa.array([1], pa.int32()), "limit_us": pa.array([1 << 61], pa.int64()), "dated": ["no"]})
kernel_of = lambda pool: Kernel(con, contract, vendor, map_header(contract.names, contract, vendor), pool)
wall, cpu = [], []
with ThreadPoolExecutor(2) as pool:
    for n in range(4):
        target, failed = folder / f"{n}.parquet", {}
        file = KernelFile(1, lambda: io.BytesIO(data), failed)
        began, used = time.perf_counter(), time.process_time()
        if explain:
            rows = kernel_of(pool).write_rejects([file], target, files)[1]
        else:
            rows = kernel_of(pool).write_rows([file], target, [], files)[1].parsed
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
        target.unlink(missing_ok=True)
        assert not failed, failed
print(rows, statistics.median(wall[1:]), statistics.median(cpu[1:]), flush=True)
os._exit(0)
"""
"""Reads a file four times, of which the first does not count: (path, settings of the vendor, `rows` or `explain`)."""

Rows = list[bytes]


def main() -> None:
    """Measure, and keep the figures in `bench/results/row_kernel.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another work tree, whose kernel reads the plain file in turns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-", dir=_memory()) as folder:
        feed = Path(folder) / "order_tracking_2026_11_23.csv"
        big_file(feed, options.rows)
        found: dict[str, object] = {"rows": options.rows, "rounds": options.rounds}
        if options.against is not None:
            found["plain_in_turns"] = _in_turns(feed, options.rounds, options.against)
        found["gzip"] = _gzip(feed, options.rounds)
        found["careful"] = {kind: _careful(feed, kind) for kind in CAREFUL}
        found["whole_pass"] = {kind: _whole(Path(folder), feed, kind) for kind in WHOLE}
    save("row_kernel", found)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _read(tree: Path, feed: Path, settings: dict[str, object], how: str = "rows") -> tuple[int, float, float]:
    """(rows, seconds on the clock, seconds of processor time) of one reading."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [sys.executable, "-c", READ, str(feed), repr(settings), how]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if run.returncode:
        raise RuntimeError(run.stderr[-3000:])
    rows, wall_s, cpu_s = run.stdout.split()
    return int(rows), float(wall_s), float(cpu_s)


def _in_turns(feed: Path, rounds: int, other: Path) -> dict[str, object]:
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(_read(other, feed, {}))
        ours.append(_read(ROOT, feed, {}))
    commit = ["git", "-C", str(other), "rev-parse", "--short", "HEAD"]
    return {
        "against": subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip(),
        "cpu_s": _rounded([run[2] for run in ours]),
        "wall_s": _rounded([run[1] for run in ours]),
        "against_cpu_s": _rounded([run[2] for run in theirs]),
        "against_wall_s": _rounded([run[1] for run in theirs]),
        "ratio_of_medians_cpu": round(_median(ours, 2) / _median(theirs, 2), 3),
        "ratio_of_medians_wall": round(_median(ours, 1) / _median(theirs, 1), 3),
    }


def _gzip(feed: Path, rounds: int) -> dict[str, object]:
    """A packed file against the same one plain, in turns with its bare decompression by Python."""
    packed = feed.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(feed.read_bytes(), 6))
    plain, unpacked, alone = [], [], []
    for _ in range(rounds):
        plain.append(_read(ROOT, feed, {}))
        unpacked.append(_read(ROOT, packed, {}))
        began = time.process_time()
        with gzip.open(packed) as stream:
            while stream.read(1 << 20):
                pass
        alone.append(time.process_time() - began)
    added = _median(unpacked, 2) - _median(plain, 2)
    return {
        "plain_cpu_s": _rounded([run[2] for run in plain]),
        "gzip_cpu_s": _rounded([run[2] for run in unpacked]),
        "decompression_alone_cpu_s": _rounded(alone),
        "added_cpu_s": round(added, 2),
        "added_to_decompression": round(added / statistics.median(alone), 2),
        "plain_wall_s": _rounded([run[1] for run in plain]),
        "gzip_wall_s": _rounded([run[1] for run in unpacked]),
    }


def _careful(feed: Path, kind: str) -> dict[str, object]:
    """Rows a second of a kind of file, in the first reading and in the one that explains its rejects."""
    header, *rows = feed.read_bytes().splitlines(keepends=True)
    change, settings = CAREFUL[kind]
    file = feed.with_name(f"{kind}.csv")
    file.write_bytes(header + b"".join(change(rows)))
    figures: dict[str, object] = {}
    for how in ("rows", "explain") if not settings else ("rows",):
        count, wall_s, cpu_s = _read(ROOT, file, settings, how)
        figures |= {
            f"{how}_a_second_of_cpu": round(count / cpu_s),
            f"{how}_a_second_on_the_clock": round(count / wall_s),
        }
    file.unlink()
    return figures


def _whole(folder: Path, feed: Path, kind: str) -> dict[str, object]:
    """A pass that stages, loads and archives a file, as a process of its own."""
    base = folder / "pass"
    (base / "in").mkdir(parents=True)
    header, *rows = feed.read_bytes().splitlines(keepends=True)
    change, settings = CAREFUL.get(kind, (list, {}))
    (base / "in" / feed.name).write_bytes(header + b"".join(change(rows)))
    profile = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    (base / "ordertrail.toml").write_text(CONFIG + profile, encoding="utf-8")
    run = timed(PASS, [str(base / "ordertrail.toml")])
    shutil.rmtree(base)
    return {
        "rows_a_second_of_cpu": round(len(rows) / run.cpu_s),
        "wall_s": round(run.wall_s, 2),
        "cpu_s": round(run.cpu_s, 2),
        "peak_mb": round(run.peak_mb),
        "became": run.output,
    }


def _median(runs: list[tuple[int, float, float]], place: int) -> float:
    return statistics.median(run[place] for run in runs)


def _rounded(figures: list[float]) -> list[float]:
    return [round(figure, 3) for figure in figures]


def _some(rows: Rows, changed: Callable[[bytes], bytes], every: int) -> Rows:
    return [row if n % every else changed(row) for n, row in enumerate(rows)]


def _longer(row: bytes) -> bytes:
    return row.rstrip(b"\n") + b",x\n"


def _shorter(row: bytes) -> bytes:
    return row.rpartition(b",")[0] + b"\n"


def _misquoted(row: bytes) -> bytes:
    return row.replace(b", ", b' "Inc", ', 1)


def _escaped(row: bytes) -> bytes:
    return row.replace(b", ", b' \\"Inc\\", ', 1)


CAREFUL: dict[str, tuple[Callable[[Rows], Rows], dict[str, object]]] = {
    "a_cell_too_many_in_all": (lambda rows: [_longer(row) for row in rows], {}),
    "a_cell_too_few_in_all": (lambda rows: [_shorter(row) for row in rows], {}),
    "a_cell_too_many_in_1_of_100": (lambda rows: _some(rows, _longer, 100), {}),
    "misquoted_all": (lambda rows: [_misquoted(row) for row in rows], {}),
    "misquoted_1_of_100": (lambda rows: _some(rows, _misquoted, 100), {}),
    "escaped_all": (lambda rows: [_escaped(row) for row in rows], {"escape": "\\"}),
}
"""By its name, how the rows of a plain file are changed, and the settings of the vendor that read them."""

WHOLE = ("plain", "a_cell_too_many_in_1_of_100", "misquoted_1_of_100", "escaped_all")
"""The kinds of which a whole pass is measured, too."""


if __name__ == "__main__":
    main()
