"""How long the pages of `ordertrail serve` take with 100,000 deliveries and 10 million shipments, also during passes.

`python -m bench.pages [--rows 10m] [--deliveries 100k] [--rounds 30]`. A round asks every page once, for another
shipment, delivery or filter each time; a page takes until its last byte is here. The first search comes before the
search cache is there; the rounds begin once it is. In the end passes of 100,000 rows run beside the same rounds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import duckdb

from bench import tables
from bench.report import memory_mb, peak_mb, save
from bench.upsert import Case, sizes
from ordertrail import load_config
from ordertrail.delta.actions import Txn
from ordertrail.delta.table import Change, Table
from ordertrail.look.search_cache import FOLDER
from ordertrail.parse.kernel import SMALL_PARQUET
from ordertrail.rules.cell_sql import sql_type
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import DELIVERIES, REJECTS, TableColumn

REJECTS_A_DELIVERY = 0.5
PASSES = 4
PASS_ROWS = 100_000
SORTED_WITHIN_S = 600.0
PATIENCE_S = 300.0
IDLE_S = 3.0
LOOK_EVERY_S = 0.005
GOALS = {"page_p95_ms": 100, "first_byte_during_passes_p95_ms": 150, "rss_mb": 150}

_DELIVERIES = {
    "delivery_id": "format('000001-{:06d}-{:08x}', 1000 + i, hash(i) & 4294967295)",
    "vendor": "'default'",
    "file_name": "format('scans_{:06d}.csv', i)",
    "sha256": "md5(CAST(i AS VARCHAR)) || md5(CAST(-i AS VARCHAR))",
    "size_bytes": "10000 + hash(i) % 1000000",
    "modified_at": "came",
    "discovered_at": "came + INTERVAL 2 SECOND",
    "batch": "1",
    "state": "CASE WHEN i % 997 = 0 THEN 'dismissed' WHEN i % 50 = 0 THEN 'duplicate' ELSE 'loaded' END",
    "reason": "CASE WHEN i % 997 = 0 THEN 'the header has no column tracking_num' END",
    "rows_parsed": "100",
    "rows_inserted": "40",
    "rows_updated": "59 - i % 2",
    "rows_rejected": "1 + i % 2",
    "archived_to": "format('2026/01/01/scans_{:06d}.csv', i)",
    "staged_at": "came + INTERVAL 3 SECOND",
    "loaded_at": "came + INTERVAL 3 SECOND",
    "path": "format('scans_{:06d}.csv', i)",
    "file_key": "epoch_ms(came)",
    "absent": "'[]'",
}
_REJECTS = {
    "vendor": "'default'",
    "delivery_id": _DELIVERIES["delivery_id"],
    "file_name": _DELIVERIES["file_name"],
    "file_row": "17",
    "file_line": "18",
    "column": "CASE WHEN i % 3 = 0 THEN 'pck_recieved_date' ELSE 'last_update_timestamp' END",
    "value": "'2026-13-45'",
    "rule": "CASE WHEN i % 3 = 0 THEN 'date' ELSE 'timestamp' END",
    "reason": "'not a date: expected ISO 8601 such as 2026-11-23'",
    "raw": "format('ORD-{},1ZX{:09d},2026-13-45,,IN_TRANSIT,1 Elm St,2026-11-20 08:00:00', i, i)",
    "batch": "1",
    "rejected_at": "came",
}


@dataclass(frozen=True, slots=True)
class Took:
    """How long an answer took.

    Attributes:
        first_ms: Until its first byte.
        whole_ms: Until its last byte.
    """

    first_ms: float
    whole_ms: float


class Reader:
    """Asks for pages, over one connection as a browser does."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def ask(self, path: str) -> tuple[Took, bytes]:
        """One page.

        Raises:
            RuntimeError: It is not answered as it should be.
        """
        began = time.perf_counter()
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        first = time.perf_counter()
        body = answer.read()
        whole = time.perf_counter()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body[:300]!r}")
        return Took((first - began) * 1000, (whole - began) * 1000), body


def pages_of(rows: int, deliveries: int) -> dict[str, Callable[[random.Random], str]]:
    """Each page with what makes an address of it.

    Args:
        rows: Of the target.
        deliveries: How many there are.
    """

    def number(pick: random.Random) -> str:
        return f"1Z999AA1{pick.randrange(rows) * 7368787 % 10**10:010d}"

    def delivery(pick: random.Random) -> str:
        return quote(_one(f"SELECT {_DELIVERIES['delivery_id']} FROM (SELECT {pick.randrange(deliveries)} AS i)"))

    return {
        "today": lambda _: "/",
        "today, 14 days": lambda _: "/?period=14d",
        "deliveries": lambda _: "/deliveries",
        "deliveries by name": lambda pick: f"/deliveries?name=_{pick.randrange(deliveries):06d}",
        "deliveries with rejects, a day": lambda pick: f"/deliveries?rejects=1&since=2026-0{pick.randrange(1, 9)}-11",
        "delivery": lambda pick: f"/delivery?id={delivery(pick)}",
        "shipment by number": lambda pick: f"/shipment?number={number(pick)}",
        "shipment by last 6 digits": lambda pick: f"/shipment?number={number(pick)[-6:]}",
        "shipment by last 8 digits": lambda pick: f"/shipment?number={number(pick)[-8:]}",
        "shipment by order number": lambda pick: f"/shipment?number=ORD-{pick.randrange(rows):010d}",
        "rejects": lambda _: "/rejects?period=all",
        "rejects of a rule": lambda pick: f"/rejects?period=all&rule={pick.choice(('date', 'timestamp'))}",
        "vendors": lambda _: "/vendors",
        "vendor": lambda _: "/vendor?name=default",
        "tables": lambda _: "/tables",
        "incidents": lambda _: "/incidents",
    }


def _one(sql: str) -> str:
    return str(duckdb.sql(sql).fetchall()[0][0])


def build(work: Path, rows: int, deliveries: int) -> Path:
    """A pipeline with so many shipments and deliveries, and half as many rejects; its folder."""
    base = work / f"base-{rows}-random"
    tables.build(base, {"ordertrail"}, rows, ascending=False)
    folder = work / "pages"
    if not (folder / "done").exists():
        tables.copy(base / "ordertrail", folder)
        more_deliveries(folder, deliveries)
        config = load_config(folder / "ordertrail.toml")
        _add(config.table_path(config.tables.rejects), REJECTS, _REJECTS, int(deliveries * REJECTS_A_DELIVERY))
        (folder / "done").touch()
    return folder


def more_deliveries(folder: Path, deliveries: int) -> None:
    """Add so many deliveries to a pipeline in a folder."""
    config = load_config(folder / "ordertrail.toml")
    _add(config.table_path(config.tables.deliveries), DELIVERIES, _DELIVERIES, deliveries)


def _add(root: Path, columns: Sequence[TableColumn], cells: dict[str, str], rows: int) -> None:
    """Add rows that no pass wrote to a table, in one commit."""
    table = Table(root, columns)
    base = table.snapshot()
    path = table.new_path("bench")
    filled = {column: cells.get(column.name, "0" if column.name.startswith("rows_") else "NULL") for column in columns}
    listed = ", ".join(
        f"CAST({sql} AS {sql_type(column.type)}) AS {name_sql(column.name)}" for column, sql in filled.items()
    )
    came = "TIMESTAMPTZ '2026-01-01' + to_minutes(CAST(range * 4 AS BIGINT))"
    source = f"SELECT range AS i, {came} AS came FROM range({rows})"
    duckdb.sql(
        f"COPY (SELECT {listed} FROM ({source}) ORDER BY i) TO '{path}' ({SMALL_PARQUET})"
    )  # as maintenance does
    table.commit(base, Change(Txn("bench", 1, 0), "WRITE", [table.added(path, rows)]))


def measure(folder: Path, rows: int, deliveries: int, rounds: int) -> dict[str, object]:
    """All that is measured, with one server."""
    pages, pick = pages_of(rows, deliveries), random.Random(7)
    for left in folder.glob(f"tables/{FOLDER}/**/*.parquet"):
        left.unlink()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words = [sys.executable, "-m", "ordertrail", "serve", "--port", "0", "--json"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            reader = Reader(int(json.loads(process.stdout.readline())["url"].rstrip("/").rpartition(":")[2]))
            unsorted = reader.ask(pages["shipment by number"](pick))[0].whole_ms
            sorted_s = _until_sorted(reader)
            cold = {name: round(reader.ask(make(pick))[0].whole_ms) for name, make in pages.items()}
            with _memory_while(process.pid) as warm_memory:
                warm = _rounds(reader, pages, pick, rounds)
            with _memory_while(process.pid) as busy_memory:
                busy = _during_passes(reader, pages, pick, folder, rows)
            return {
                "shipment_before_the_cache_ms": round(unsorted),
                "sorted_after_s": sorted_s,
                "first_time_ms": cold,
                "warm": {**_told(warm), "rss": warm_memory},
                "during_passes": {**_told(busy), "rss": busy_memory},
                **_memory(process.pid),
                "goals": GOALS,
            }
        finally:
            process.terminate()


def _until_sorted(reader: Reader) -> float:
    """Seconds until no search takes longer than it should because numbers are not sorted yet."""
    began = time.monotonic()
    while time.monotonic() - began < SORTED_WITHIN_S:
        if not json.loads(reader.ask("/shipment.json")[1])["sorting"]:
            return round(time.monotonic() - began, 1)
        time.sleep(1.0)
    raise TimeoutError(f"the numbers are not sorted after {SORTED_WITHIN_S:g} s")


def _rounds(
    reader: Reader, pages: dict[str, Callable[[random.Random], str]], pick: random.Random, rounds: int
) -> dict[str, list[Took]]:
    found: dict[str, list[Took]] = {name: [] for name in pages}
    for turn in range(rounds + 1):
        for name, make in pages.items():
            took, _ = reader.ask(make(pick))
            if turn:  # the first one warms
                found[name].append(took)
    return found


def _during_passes(
    reader: Reader, pages: dict[str, Callable[[random.Random], str]], pick: random.Random, folder: Path, rows: int
) -> dict[str, list[Took]]:
    """The same rounds while passes run, one after another."""
    case, over = Case(rows, PASS_ROWS, 50, "random"), threading.Event()

    def passes() -> None:
        for number in range(PASSES):
            csv = case.write_batch(folder, 100 + number)
            csv.rename(folder / "in" / csv.name)
            subprocess.run([sys.executable, "-m", "ordertrail", "run"], cwd=folder, check=False, capture_output=True)
        over.set()

    threading.Thread(target=passes, daemon=True).start()
    found: dict[str, list[Took]] = {name: [] for name in pages}
    while not over.is_set():
        for name, make in pages.items():
            found[name].append(reader.ask(make(pick))[0])
    return found


def _told(found: dict[str, list[Took]]) -> dict[str, object]:
    every = [took for tooks in found.values() for took in tooks]
    return {
        "p95_ms": _p95([took.whole_ms for took in every]),
        "first_byte_p95_ms": _p95([took.first_ms for took in every]),
        "pages": {
            name: {
                "median_ms": round(statistics.median(took.whole_ms for took in tooks), 1),
                "p95_ms": _p95([took.whole_ms for took in tooks]),
                "times": len(tooks),
            }
            for name, tooks in found.items()
        },
    }


@contextmanager
def _memory_while(process_id: int) -> Iterator[dict[str, int]]:
    """Memory of the server in MB while the block runs, told when it ends: seen 200 times a second."""
    seen: list[float] = []
    told: dict[str, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            seen.append(memory_mb(process_id))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield told
    finally:
        over.set()
        looking.join()
    told |= {"median_mb": round(statistics.median(seen)), "p95_mb": round(_p95(seen)), "most_mb": round(max(seen))}


def _memory(process_id: int) -> dict[str, int]:
    """Memory of the server in MB: after the last page, a moment later, and at its peak."""
    busy = memory_mb(process_id)
    time.sleep(IDLE_S)
    return {
        "rss_mb": round(busy),
        "rss_idle_mb": round(memory_mb(process_id)),
        "rss_idle_data_mb": round(memory_mb(process_id, "RssAnon")),
        "rss_idle_code_mb": round(memory_mb(process_id, "RssFile")),
        "peak_rss_mb": round(peak_mb(process_id)),
    }


def _p95(values: Sequence[float]) -> float:
    ascending = sorted(values)
    return round(ascending[min(len(ascending) - 1, int(0.95 * len(ascending)))], 1)


def main() -> None:
    """Measure, and keep the figures in `bench/results/pages.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=sizes, default=[10_000_000], help="shipments: 10m")
    parser.add_argument("--deliveries", type=sizes, default=[100_000], help="deliveries: 100k")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--work", type=Path, help="a folder to keep the built tables in, for the next command")
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as scratch:
        work: Path = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        rows, deliveries = options.rows[0], options.deliveries[0]
        folder = build(work.resolve(), rows, deliveries)
        found = measure(folder, rows, deliveries, options.rounds)
    figures = {"shipments": rows, "deliveries": deliveries, "rounds": options.rounds, **found}
    if options.only_try:
        print(json.dumps(figures, indent=2))
    else:
        save("pages", figures)


if __name__ == "__main__":
    main()
