"""The first load of a file whose keys repeat, against DuckDB alone.

`python -m bench.repeated_keys [--rows 5000000] [--shipments 3200000] [--rounds 3]`. The contenders run in turns, each
as a fresh process, timed from outside:

- `ordertrail run`: parses, checks, stages, finds the newest row of each key, writes target, history and records, and
  archives;
- DuckDB writing what ordertrail's tables hold of it: every typed row, and the newest row of each key, as two files;
- DuckDB's bare typed `COPY` of the file.

In the end target and newest rows must be the same, and history must have every row.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import tables
from bench.feed import repeated_file
from bench.first_load import CONFIG, NAME, NOT_RACY_S
from bench.report import Timed, save, summary, timed, timed_command

_READ = """
import sys, duckdb
from bench.peers import read_csv_sql
from pathlib import Path
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
def copy(sql, path):
    return connection.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)").fetchall()[0][0]
feed, folder = Path(sys.argv[1]), sys.argv[2]
rows = copy(f"FROM {read_csv_sql(feed)}", folder + "/history.parquet")
"""
BARE = f"{_READ}print(rows)\n"
HISTORY_AND_NEWEST = f"""{_READ}
newest = copy(
    f"FROM read_parquet('{{folder}}/history.parquet') "
    "QUALIFY row_number() OVER (PARTITION BY tracking_num ORDER BY last_update_timestamp DESC) = 1",
    folder + "/newest.parquet",
)
print(rows, newest)
"""


class Contest:
    """The contenders in a folder.

    Args:
        folder: For all files.
        rows: Of the feed.
        shipments: In it.
    """

    def __init__(self, folder: Path, rows: int, shipments: int) -> None:
        self._folder = folder
        self._rows, self._shipments = rows, shipments
        self.feed = folder / NAME
        repeated_file(self.feed, rows, shipments)
        self._run, self._peer = folder / "run", folder / "peer"

    def contenders(self) -> Mapping[str, Callable[[], Timed]]:
        """Each contender by its name: a call is one turn, from an empty folder."""
        return {
            "ordertrail_run": self._ordertrail,
            "duckdb_history_and_newest": lambda: self._duckdb(HISTORY_AND_NEWEST, f"{self._rows} {self._shipments}"),
            "duckdb_bare_copy": lambda: self._duckdb(BARE, str(self._rows)),
        }

    def compare(self) -> None:
        """After the turns of the first two: both have the same newest rows.

        Raises:
            RuntimeError: They have not.
        """
        ours, theirs = (
            tables.fingerprint("ordertrail", self._run),
            tables.fingerprint("parquet", self._peer / "newest.parquet"),
        )
        if ours != theirs or ours[0] != self._shipments:
            raise RuntimeError(f"the target has {ours}, the newest rows are {theirs}")

    def _ordertrail(self) -> Timed:
        shutil.rmtree(self._run, ignore_errors=True)
        (self._run / "in").mkdir(parents=True)
        shutil.copyfile(self.feed, self._run / "in" / NAME)
        config = self._run / "ordertrail.toml"
        config.write_text(CONFIG, encoding="utf-8")
        time.sleep(NOT_RACY_S)
        found = timed_command([sys.executable, "-m", "ordertrail", "run", "--json", "--config", str(config)])
        rows = json.loads(found.output)["rows"]
        wanted = {"parsed": self._rows, "inserted": self._shipments, "superseded": self._rows - self._shipments}
        if rows != rows | wanted:
            raise RuntimeError(f"not every row has the outcome that it should: {rows}")
        return found

    def _duckdb(self, code: str, wanted: str) -> Timed:
        shutil.rmtree(self._peer, ignore_errors=True)
        self._peer.mkdir()
        found = timed(code, [str(self.feed), str(self._peer)])
        if found.output.strip() != wanted:
            raise RuntimeError(f"DuckDB wrote {found.output.strip()}, not {wanted} rows")
        return found


def measure(folder: Path, rows: int, shipments: int, rounds: int) -> dict[str, object]:
    """All contenders in turns.

    Returns:
        The figures, and ratios of medians of whole processes to ordertrail's.

    Raises:
        RuntimeError: A contender failed, or ended with other rows.
    """
    contest = Contest(folder, rows, shipments)
    found: dict[str, list[Timed]] = {name: [] for name in contest.contenders()}
    for number in range(rounds):
        for name, turn in contest.contenders().items():
            found[name].append(turn())
            print(f"round {number}, {name}: {found[name][-1].wall_s:.2f} s", flush=True)
            if name == "duckdb_history_and_newest":
                contest.compare()
    ours = _median(found["ordertrail_run"])
    return {
        "rows": rows,
        "shipments": shipments,
        "file_bytes": contest.feed.stat().st_size,
        **{name: summary(runs) for name, runs in found.items()},
        "ratio_to_history_and_newest": round(ours / _median(found["duckdb_history_and_newest"]), 2),
        "ratio_to_bare_copy": round(ours / _median(found["duckdb_bare_copy"]), 2),
    }


def _median(runs: Sequence[Timed]) -> float:
    return statistics.median(run.wall_s for run in runs)


def main() -> None:
    """Measure, and keep the figures in `bench/results/repeated_keys.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--shipments", type=int, help="different keys; without it 64 %% of the rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures")
    options = parser.parse_args()
    shipments = options.shipments or options.rows * 64 // 100
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        figures = measure(Path(folder), options.rows, shipments, options.rounds)
    if options.only_try:
        print(json.dumps(figures, indent=2))
    else:
        save("repeated_keys", figures)


if __name__ == "__main__":
    main()
