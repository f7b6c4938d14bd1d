"""A hundred thousand small batches through one `watch`: what is the same in the last thousand as in the first?

`python -m bench.long_run [--rows 1000000] [--batches 100000] [--minutes 120] [--work DIR]`. A file of 100 rows is moved
into the folder as soon as the one before it has left it for the archive, so each is a batch of its own: half new
shipments, half updates of random ones, two of which are older than what the target holds. The service maintains its
tables as it always does, only that it keeps old files and log entries for minutes and not for days, so that what is
kept can level out within the run.

Measured are, over the run: from the move to the archive, the service's processor time and memory, its open files, and
what is on disk. In the end every shipment that was updated must have the time of its newest row.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench.feed import COLUMNS, big_file
from bench.report import environment, memory_mb, save
from bench.watch import existing_key, wait_until_idle
from ordertrail.config import Config, parse_config
from ordertrail.delta.table import Table, scan_sql
from ordertrail.pipeline import Pipeline
from ordertrail.rules.tables import target_columns

BATCH_ROWS = 100
NEW = BATCH_ROWS // 2
LATE = 2
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
LATE_AT = "2026-08-01 00:00:00"
PATIENCE_S = 120.0
SAMPLES = 20
ENDS = 1000
"""How many batches at the beginning and at the end are compared."""

CONFIG = """[pipeline]
name = "orders"
source = "in"
archive = "archive"
warehouse = "tables"
[maintenance]
retention_h = {hours}
log_retention_h = {hours}
"""


class Feed:
    """Makes the files, and knows the newest row of each shipment.

    Args:
        rows: Of the target before the first batch: shipments 0 to `rows - 1`.
        batches: At most so many are made.
    """

    def __init__(self, rows: int, batches: int) -> None:
        self.rows = rows
        self.newest = np.full(rows + batches * NEW, -1, np.int32)
        self.pick = np.random.default_rng(7)

    def text(self, number: int) -> str:
        """The file of batch `number`; they must be asked for in order."""
        known = self.rows + number * NEW
        updated = self.pick.choice(known, BATCH_ROWS - NEW, replace=False)
        news = np.arange(known, known + NEW)
        self.newest[updated[LATE:]] = number
        self.newest[news] = number
        now = f"{BEGIN + timedelta(seconds=number):%Y-%m-%d %H:%M:%S}"
        lines = [",".join(COLUMNS)]
        for place, shipment in enumerate([*updated.tolist(), *news.tolist()]):
            at = LATE_AT if place < LATE else now
            lines.append(f"ORD-{shipment:010d},{existing_key(shipment)},2026-07-28,,IN_TRANSIT,12 Bench Street,{at}")
        return "\n".join(lines) + "\n"

    def name(self, number: int) -> str:
        """Its name, by the day of its rows."""
        return f"order_tracking_{BEGIN + timedelta(seconds=number):%Y_%m_%d}_{number:06d}.csv"

    def check(self, config: Config, made: int) -> None:
        """Compare the target with what was sent.

        Raises:
            SystemExit: They differ.
        """
        touched = np.flatnonzero(self.newest >= 0)
        expected = pa.table(
            {
                "k": [existing_key(shipment) for shipment in touched.tolist()],
                "s": self.newest[touched].astype(np.int64) + int(BEGIN.timestamp()),
            }
        )
        columns = target_columns(config.contract)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("expected", expected)
            rows = scan_sql(connection, Table(config.table_path(config.tables.target), columns).snapshot(), columns)
            count, right = connection.execute(
                f"""SELECT count(*), count_if(epoch_us(last_update_timestamp) = s * 1000000)
                FROM {rows} LEFT JOIN expected ON tracking_num = k"""
            ).fetchall()[0]
        if (count, right) != (self.rows + made * NEW, len(touched)):
            raise SystemExit(f"the target has {count} rows, {right} of {len(touched)} as they were sent")


def run(base: Path, rows: int, batches: int, minutes: float, retention_h: float) -> dict[str, object]:
    """Load batch after batch.

    Args:
        base: An empty folder.
        rows: Of the target before the first batch.
        batches: At most so many.
        minutes: No more batches after so long.
        retention_h: How long old files and log entries are kept, in hours.

    Returns:
        The figures.
    """
    text = CONFIG.format(hours=retention_h)
    (base / "ordertrail.toml").write_text(text, encoding="utf-8")
    config = parse_config(text, base=base, environ={})
    config.source.mkdir()
    big_file(config.source / "order_tracking_2026_10_01.csv", rows)
    Pipeline(config).run(frozenset({"order_tracking_2026_10_01.csv"}))
    feed = Feed(rows, batches)
    seconds: list[float] = []
    samples: list[dict[str, object]] = []
    with _serving(config) as service:
        wait_until_idle(config)
        began = time.monotonic()
        sampled, cpu_s = 0, _cpu_s(service)
        while len(seconds) < batches and time.monotonic() - began < minutes * 60:
            seconds.append(_pass(config, feed, len(seconds)))
            if len(seconds) in (1, ENDS, batches) or len(seconds) % max(1, batches // SAMPLES) == 0:
                used_s, made = _cpu_s(service) - cpu_s, len(seconds) - sampled
                sample = {"batches": len(seconds), "cpu_s_a_batch": round(used_s / made, 4)}
                samples.append(sample | _latency(seconds[-made:]) | _state(config, service))
                sampled, cpu_s = len(seconds), cpu_s + used_s
                print(json.dumps(samples[-1]), flush=True)
    feed.check(config, len(seconds))
    return {
        "rows_before": rows,
        "batches": len(seconds),
        "batch_rows": BATCH_ROWS,
        "retention_h": retention_h,
        "first": _latency(seconds[:ENDS]),
        "last": _latency(seconds[-ENDS:]),
        "by_thousand_p50_s": [
            round(statistics.median(seconds[first : first + ENDS]), 4) for first in range(0, len(seconds), ENDS)
        ],
        "over_time": samples,
    }


def _pass(config: Config, feed: Feed, number: int) -> float:
    """Hand over one file; seconds until it is on its way into the archive."""
    made = config.source.parent / "made"
    made.write_text(feed.text(number), encoding="utf-8")
    place = config.source / feed.name(number)
    began = time.perf_counter()
    made.rename(place)
    while place.exists():
        time.sleep(0.001)
        if time.perf_counter() - began > PATIENCE_S:
            raise SystemExit(f"{place.name} is still there after {PATIENCE_S:g} s")
    return time.perf_counter() - began


@contextmanager
def _serving(config: Config) -> Iterator[int]:
    toml = str(config.source.parent / "ordertrail.toml")
    words = [sys.executable, "-m", "ordertrail", "watch", "--config", toml]
    service = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    try:
        yield service.pid
    finally:
        service.terminate()
        if service.wait(timeout=30) != 0:
            raise SystemExit(f"the service ended with exit code {service.returncode}")


def _cpu_s(process_id: int) -> float:
    words = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _latency(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50_s": round(statistics.median(ordered), 4),
        "p95_s": round(ordered[-(-len(ordered) * 95 // 100) - 1], 4),
        "max_s": round(ordered[-1], 4),
    }


def _state(config: Config, process_id: int) -> dict[str, object]:
    """The service's memory and open files; files and bytes on disk."""
    found: dict[str, object] = {
        "rss_mb": round(memory_mb(process_id)),
        "peak_mb": round(memory_mb(process_id, "VmHWM")),
        "open_files": _entries(f"/proc/{process_id}/fd"),
        "threads": _entries(f"/proc/{process_id}/task"),
    }
    names = config.tables
    for role, name in (("target", names.target), ("history", names.history), ("deliveries", names.deliveries)):
        files = [path for path in config.table_path(name).rglob("*") if path.is_file()]
        found[role] = {
            "data_files": sum(1 for path in files if "_delta_log" not in path.parts),
            "log_files": sum(1 for path in files if "_delta_log" in path.parts),
            "mb": round(sum(_size(path) for path in files) / 1e6, 1),
        }
    # The key index, the notes and what else is kept beside the tables.
    hidden = [path for path in config.warehouse.rglob(".ordertrail-*/**/*") if path.is_file()]
    hidden += [path for path in config.warehouse.glob(".ordertrail-*") if path.is_file()]
    found["beside"] = {"files": len(hidden), "mb": round(sum(_size(path) for path in hidden) / 1e6, 1)}
    return found


def _entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def main() -> None:
    """Measure, and keep the figures in `bench/results/long_run.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the target before the first batch")
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=120.0, help="no more batches after so long")
    parser.add_argument("--retention", type=float, default=0.05, help="hours that old files and log entries stay")
    parser.add_argument("--work", type=Path, help="an empty folder; default: one that is removed in the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as scratch:
        base = options.work or Path(scratch)
        base.mkdir(parents=True, exist_ok=True)
        save("long_run", run(base, options.rows, options.batches, options.minutes, options.retention))


if __name__ == "__main__":
    main()
