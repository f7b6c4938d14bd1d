"""What telling costs the process of a pass, with 100,000 deliveries: `ordertrail run` with and without `[[alerts]]`.

`python -m bench.telling [--deliveries 100k] [--rounds 9]`. The same file of a few rows comes to each pipeline in turn:
one without alerts, and those with them where nothing is open, where one delivery is quarantined and told, and where one
is quarantined by this very pass, whose message a server in this process takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench import tables
from bench.feed import COLUMNS
from bench.pages import more_deliveries
from bench.report import Timed, save, timed_command
from bench.upsert import sizes

ROWS = 100_000
BAD = "nobody,knows,these,columns\n1,2,3,4\n"
CASES = ("no alerts", "nothing open", "one open and told", "one opens")


class Receiver:
    """A server on loopback that takes every message, and counts them."""

    def __init__(self) -> None:
        taken: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.taken = taken
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def build(work: Path, deliveries: int, port: int) -> dict[str, Path]:
    """A pipeline a case, each with so many deliveries; their folders."""
    base = work / "base"
    tables.build(base, {"ordertrail"}, ROWS, ascending=False)
    folders = {}
    for number, case in enumerate(CASES):
        folder = folders[case] = work / f"case-{number}"
        tables.copy(base / "ordertrail", folder)
        more_deliveries(folder, deliveries)
        if case != "no alerts":
            with (folder / "ordertrail.toml").open("a", encoding="utf-8") as config:
                config.write(f'\n[[alerts]]\nname = "desk"\nurl = "json://127.0.0.1:{port}/told"\n')
    return folders


def drop(folder: Path, number: int, *, bad: bool) -> None:
    """Put a file into a pipeline's source folder."""
    lines = [",".join(COLUMNS)]
    lines += [
        f"ORD-{number},NEW{number:06d}{n:03d},2026-10-28,,DELIVERED,12 Bench Street,2026-11-01 10:00:00"
        for n in range(10)
    ]
    name = f"order_tracking_2026_11_01_{number:04d}.csv"
    (folder / "in" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if bad:
        (folder / "in" / f"bad_{name}").write_text(f"{BAD}{number}\n", encoding="utf-8")


def run(folder: Path) -> Timed:
    """One pass."""
    words = [sys.executable, "-m", "ordertrail", "run", "--config", str(folder / "ordertrail.toml"), "--json"]
    return timed_command(words, allowed=(0, 3))


def measure(folders: dict[str, Path], receiver: Receiver, rounds: int) -> dict[str, object]:
    """Passes in turns, after one that warms and tells of what is open."""
    found: dict[str, list[Timed]] = {case: [] for case in CASES}
    for turn in range(rounds + 1):
        for case, folder in folders.items():
            drop(folder, turn, bad=case == "one opens" or (turn == 0 and case == "one open and told"))
            before = len(receiver.taken)
            took = run(folder)
            told = len(receiver.taken) - before
            if told != (case == "one opens" or (turn == 0 and case == "one open and told")):
                raise RuntimeError(f"{case}: {receiver.taken[before:]}")
            if turn:
                found[case].append(took)
    plain = found["no alerts"]
    return {
        case: {
            "median_cpu_ms": round(statistics.median(one.cpu_s for one in runs) * 1000),
            "median_wall_ms": round(statistics.median(one.wall_s for one in runs) * 1000),
            "more_cpu_ms": round(
                statistics.median(a.cpu_s - b.cpu_s for a, b in zip(runs, plain, strict=True)) * 1000, 1
            ),
            "more_wall_ms": round(
                statistics.median(a.wall_s - b.wall_s for a, b in zip(runs, plain, strict=True)) * 1000, 1
            ),
        }
        for case, runs in found.items()
    }


def main() -> None:
    """Measure, and keep the figures in `bench/results/telling.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=sizes, default=[100_000], help="deliveries: 100k")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures")
    options = parser.parse_args()
    receiver = Receiver()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as scratch:
        folders = build(Path(scratch), options.deliveries[0], receiver.port)
        found = measure(folders, receiver, options.rounds)
    receiver.close()
    if options.only_try:
        print(found)
    else:
        save("telling", {"deliveries": options.deliveries[0], "rounds": options.rounds, **found})


if __name__ == "__main__":
    main()
