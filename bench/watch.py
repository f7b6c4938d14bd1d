"""How long after a small file is closed its rows can be read from a big target, with `watch` running.

`python -m bench.watch [--rows 1000000] [--files 60] [--gap 0.5]`. The clock starts when `close` returns and stops when
a query of the target, by a reader of its own, has given the file's row. The files come one after another, each `--gap`
seconds after the one before could be read, so a file may well arrive while the pass before it is still archiving.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb

from bench.feed import COLUMNS, big_file
from ordertrail.config import Config, parse_config
from ordertrail.delta.table import Table, scan_sql
from ordertrail.look.heartbeat import heartbeat_path
from ordertrail.pipeline import Pipeline
from ordertrail.rules.tables import target_columns

RESULT = Path(__file__).parent / "results" / "watch.json"
ROWS_A_FILE = 10
PATIENCE_S = 120.0
CONFIG = """[pipeline]
name = "orders"
source = "in"
archive = "archive"
warehouse = "tables"
"""
SERVICE = """
import sys
from pathlib import Path
from ordertrail.config import load_config
from ordertrail.watch.service import watch
sys.exit(watch(load_config(Path(sys.argv[1]))))
"""


class Reader:
    """Looks into the target as anybody may; costs little while nothing changes."""

    def __init__(self, config: Config) -> None:
        self._columns = target_columns(config.contract)
        self._root = config.table_path(config.tables.target)
        self._table = Table(self._root, self._columns)
        self._connection = duckdb.connect(config={"threads": 1})

    def until(self, key: str, after: int) -> int:
        """Wait until a version above `after` holds a key; the version."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            newest = self.version(after)
            if newest > after and self.count(f"tracking_num = '{key}'"):
                return newest
            after = max(after, newest)
            time.sleep(0.002)
        raise TimeoutError(f"{key} is not in the target after {PATIENCE_S:g} s")

    def version(self, after: int) -> int:
        """The newest version, at least `after`."""
        while (self._root / "_delta_log" / f"{after + 1:020d}.json").exists():
            after += 1
        return after

    def count(self, where: str) -> int:
        """Number of rows of the newest version."""
        relation = scan_sql(self._connection, self._table.snapshot(), self._columns)
        return int(self._connection.execute(f"SELECT count(*) FROM {relation} WHERE {where}").fetchall()[0][0])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def existing_key(shipment: int) -> str:
    """The tracking number of a shipment of `big_file`."""
    return f"1Z999AA1{shipment * 7368787 % 10**10:010d}"


def small_file(number: int, rows: int) -> str:
    """The text of a file: half of its rows update shipments of the big file, half are new ones."""
    lines = [",".join(COLUMNS)]
    for n in range(ROWS_A_FILE):
        new = n % 2 == 0
        place = number * ROWS_A_FILE + n
        key = f"NEW{number:06d}{n:03d}" if new else existing_key(place * 7919 % rows)
        lines.append(f"ORD-{place},{key},2026-10-28,,DELIVERED,12 Bench Street,2026-11-01 10:00:{n:02d}")
    return "\n".join(lines) + "\n"


def measure(base: Path, rows: int, files: int, gap_s: float) -> list[float]:
    """Build the target, start the service, drop the files; seconds from closed to readable, in order."""
    (base / "ordertrail.toml").write_text(CONFIG, encoding="utf-8")
    config = parse_config(CONFIG, base=base, environ={})
    config.source.mkdir()
    big_file(config.source / "order_tracking_2026_10_01.csv", rows)
    Pipeline(config).run(frozenset({"order_tracking_2026_10_01.csv"}))
    reader = Reader(config)
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(base / "ordertrail.toml")], stdout=subprocess.DEVNULL
    )
    try:
        wait_until_idle(config)
        newest = reader.version(0)
        seconds = []
        for number in range(files):
            time.sleep(gap_s)
            with (config.source / f"order_tracking_2026_11_01_{number:04d}.csv").open("w", encoding="utf-8") as file:
                file.write(small_file(number, rows))
            closed = time.perf_counter()
            newest = reader.until(f"NEW{number:06d}000", newest)
            seconds.append(time.perf_counter() - closed)
        wait_until_idle(config)
        expected, updated = rows + files * ROWS_A_FILE // 2, reader.count("_revision = 2")
        if reader.count("true") != expected or updated != files * ROWS_A_FILE // 2:
            raise SystemExit("the target does not hold what was sent")
    finally:
        reader.close()
        service.terminate()
        ended = service.wait(timeout=10)
    if ended != 0:
        raise SystemExit(f"the service ended with exit code {ended}")
    return seconds


def wait_until_idle(config: Config) -> None:
    """Wait until the service has passed once and rests."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            beat = json.loads(heartbeat_path(config).read_text(encoding="utf-8"))
        except FileNotFoundError:
            beat = {}
        if beat.get("state") == "idle" and beat["last_pass_at"]:
            return
        time.sleep(0.05)
    raise TimeoutError("the service does not come to rest")


def main() -> None:
    """Measure, print, and write `bench/results/watch.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the target")
    parser.add_argument("--files", type=int, default=60, help="small files to drop")
    parser.add_argument("--gap", type=float, default=0.5, help="seconds between a file read and the next one dropped")
    options = parser.parse_args()
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        seconds = measure(Path(folder), options.rows, options.files, options.gap)
    # The smallest value that 95% of the files do not exceed.
    p95 = sorted(seconds)[max(0, -(-len(seconds) * 95 // 100) - 1)]
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "target_rows": options.rows,
        "files": options.files,
        "rows_a_file": ROWS_A_FILE,
        "gap_s": options.gap,
        "closed_to_readable_s": {
            "p50": round(statistics.median(seconds), 4),
            "p95": round(p95, 4),
            "max": round(max(seconds), 4),
            "all": [round(s, 4) for s in seconds],
        },
        "machine": {
            "cores": os.cpu_count(),
            "architecture": platform.machine(),
            "load_average_before": [round(load, 2) for load in load_before],
            "load_average_after": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("duckdb", "deltalake", "pyarrow", "watchdog")},
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"closed to readable, {options.rows:,} rows, {options.files} files: ", end="")
    print(
        ", ".join(
            f"{name} {result_s:.3f} s"
            for name, result_s in (("p50", statistics.median(seconds)), ("p95", p95), ("max", max(seconds)))
        )
    )


if __name__ == "__main__":
    main()
