"""A batch into a table that is there: ordertrail's `run` against what else brings updates into a table on one machine.

`python -m bench.upsert [--sizes 10m] [--batches 100k] [--shares 50] [--keys random] [--rounds 5] [--peers ...]`; lists
are separated by commas. In turns: every contender once a round, each on its own copy of the same table, each with the
same batches, and a new one every round. Before the first round each has had one batch that is on no clock. In the end
all tables must hold the same rows.

What the figures of a contender are (seconds, medians over the rounds):

- `whole_s`: its process from start to end, seen from outside; of the warm Spark, whose session stays, from the CSV to
  the last commit, without the start of the session;
- `load_s`: the change of the table alone. For ordertrail the load step: order, look up, commit, history, rejects and
  the done mark; for the others the merge, or the delete and the append, of rows that are typed and at hand;
- `pass_s`, of ordertrail: the whole pass without the start of the process: discover, parse, check, stage, load and
  archive.

Ratios are of medians, to ordertrail's; `load_to_ordertrail_pass` is of the change of a table alone to our whole pass.
Figures are kept case by case in `bench/results/upsert.json`; a case that is measured again takes the place of the old
one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench import chart, spark, tables
from bench.report import RESULTS, measured_at, timed, timed_command, write

NOT_RACY_S = 2.1
"""A file younger than 2 s when it is found is hashed once more when it is archived; vendors' files are older."""

PEER = "from bench.peers import main; main()"


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to bring a batch in.

    Attributes:
        kind: Of its table, as in `bench.tables`.
        about: What it is, in words.
        warm: Its way on the warm Spark; None when it has a process of its own.
        spark: Whether it needs Spark.
        default: Whether it takes part when no peers are named.
    """

    kind: str
    about: str
    warm: str | None = None
    spark: bool = False
    default: bool = True


CONTENDERS: Mapping[str, Contender] = {
    "ordertrail": Contender("ordertrail", "`ordertrail run`: parse, check, stage, load, history, archive; a process"),
    "delta_rs_merge": Contender("delta", "delta-rs merge; a process, CSV typed by DuckDB"),
    "delta_rs_notebooks": Contender("delta", "the notebooks' delete and append, on delta-rs; a process"),
    "polars_merge": Contender("delta", "Polars' write_delta, mode merge; a process", default=False),
    "duckdb_merge": Contender("duckdb", "DuckDB's MERGE into its own file, not Delta; a process"),
    "spark_merge": Contender("delta", "Spark MERGE, session warm", "merge", spark=True),
    "spark_notebooks": Contender(
        "delta", "the notebooks' delete and append, Spark session warm", "notebooks", spark=True
    ),
    "spark_merge_process": Contender("delta", "Spark MERGE, a process with its session", spark=True, default=False),
    "spark_notebooks_process": Contender("delta", "the notebooks on Spark, a process with its session", spark=True),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: sizes in rows, the share of updates in %, `random` or `clustered` keys."""

    rows: int
    batch_rows: int
    update_share: int
    keys: str

    @property
    def ascending(self) -> bool:
        """Clustered keys are neighbours in the table; its keys then rise with its rows, as numbers given in turn do."""
        return self.keys == "clustered"

    @property
    def updates(self) -> int:
        """Rows of a batch that update one of the table's."""
        return self.batch_rows * self.update_share // 100

    def write_batch(self, folder: Path, number: int) -> Path:
        """Write a batch of this case into a folder; the same number, the same bytes."""
        path = folder / tables.batch_name(number)
        news = self.batch_rows - self.updates
        first = self.rows + number * news
        pick = np.random.default_rng([number, self.rows, self.batch_rows, self.update_share])
        tables.batch(path, pick, self.rows, range(first, first + news), self.updates, ascending=self.ascending)
        return path


@dataclass(slots=True)
class Bout:
    """A case while it is measured: its folder with one table a contender, and what was found, round by round."""

    case: Case
    folder: Path
    rounds: dict[str, list[dict[str, object]]] = field(default_factory=dict)


class Bench:
    """The measurements of one command.

    Args:
        work: For tables and batches.
        contenders: Names of those that take part, in order.
    """

    def __init__(self, work: Path, contenders: Sequence[str]) -> None:
        self._work = work
        self._contenders = tuple(contenders)
        self._warm: spark.WarmSpark | None = None
        if any(CONTENDERS[name].spark for name in contenders):
            spark.fetch_jars(work / "jars")
        if any(CONTENDERS[name].warm for name in contenders):
            self._warm = spark.WarmSpark(work)

    def close(self) -> None:
        """End the warm Spark."""
        if self._warm is not None:
            self._warm.close()

    def measure(self, cases: Sequence[Case], rounds: int) -> list[dict[str, object]]:
        """Measure cases together: a round is every case and every contender once.

        Returns:
            The figures, a case each.

        Raises:
            RuntimeError: A contender failed, or its table does not hold what the others' do.
        """
        bouts = [self._prepare(case) for case in cases]
        for number in range(rounds + 1):
            for bout in bouts:
                self._round(bout, number)
        for bout in bouts:
            self._compare(bout)
            shutil.rmtree(bout.folder)
        return beside([figures(bout) for bout in bouts])

    def _prepare(self, case: Case) -> Bout:
        base = self._work / f"base-{case.rows}-{case.keys}"
        kinds = {CONTENDERS[name].kind for name in self._contenders}
        tables.build(base, kinds, case.rows, ascending=case.ascending)
        folder = self._work / f"case-{case.rows}"
        shutil.rmtree(folder, ignore_errors=True)
        for name in self._contenders:
            tables.copy(base / CONTENDERS[name].kind, folder / name)
        return Bout(case, folder, {name: [] for name in self._contenders})

    def _round(self, bout: Bout, number: int) -> None:
        """Round 0 warms up: it is on no clock."""
        csv = bout.case.write_batch(bout.folder, number)
        shift = number % len(self._contenders)
        for name in self._contenders[shift:] + self._contenders[:shift]:
            found = self._turn(name, bout.folder / name, csv)
            if found.get("updated", bout.case.updates) != bout.case.updates:
                raise RuntimeError(f"{name} updated {found['updated']} rows, not {bout.case.updates}")
            if number:
                bout.rounds[name].append(found)
            print(f"{bout.case.rows:>11,} rows, round {number}, {name}: {short(found)}", flush=True)
        csv.unlink()

    def _turn(self, name: str, table: Path, csv: Path) -> dict[str, object]:
        contender = CONTENDERS[name]
        if contender.kind == "ordertrail":
            shutil.copy2(csv, table / "in" / csv.name)
            time.sleep(NOT_RACY_S)
        os.sync()  # what the one before left to write is not on this one's clock
        if contender.warm is not None:
            assert self._warm is not None
            found = self._warm.load(contender.warm, table, csv)
        else:
            found = process(name, table, csv)
        if contender.kind == "delta":
            tables.drop_old_files(table)
        return found

    def _compare(self, bout: Bout) -> None:
        prints = {name: tables.fingerprint(CONTENDERS[name].kind, bout.folder / name) for name in self._contenders}
        if len(set(prints.values())) > 1:
            raise RuntimeError(f"the tables are not the same: {prints}")


def process(name: str, table: Path, csv: Path) -> dict[str, object]:
    """One turn of a contender that is a process of its own.

    Args:
        name: Of `CONTENDERS`.
        table: Its folder.
        csv: The batch; ordertrail has it in its source folder already.

    Raises:
        RuntimeError: It failed.
    """
    ours = CONTENDERS[name].kind == "ordertrail"
    run = timed_command(_run(table)) if ours else timed(PEER, [name, str(table), str(csv)])
    found = _said(json.loads(run.output)) if ours else json.loads(run.output.splitlines()[-1])
    others_mb = float(str(found.pop("other_process_peak_mb", 0.0)))
    return found | {"whole_s": run.wall_s, "cpu_s": run.cpu_s, "peak_mb": run.peak_mb + others_mb}


def _run(table: Path) -> list[str]:
    return [sys.executable, "-m", "ordertrail", "run", "--json", "--config", str(table / "ordertrail.toml")]


def _said(report: Mapping[str, Any]) -> dict[str, object]:
    """The figures in what `ordertrail run --json` prints."""
    seconds, rows = report["seconds"], report["rows"]
    counts = {"inserted": rows["inserted"], "updated": rows["updated"]}
    return {"load_s": seconds["load"], "pass_s": seconds["total"], **counts, "steps_s": seconds}


def figures(bout: Bout) -> dict[str, object]:
    """What was found of a case, as it is kept."""
    contenders: dict[str, object] = {}
    for name, rounds in bout.rounds.items():
        keys = [key for key in ("whole_s", "load_s", "pass_s", "cpu_s") if key in rounds[0]]
        medians: dict[str, float] = {key: _median(rounds, key) for key in keys}
        entry: dict[str, object] = {"about": CONTENDERS[name].about, **medians}
        if "peak_mb" in rounds[0]:
            entry["peak_mb"] = round(max(float(str(one["peak_mb"])) for one in rounds))
        if "ordertrail" in bout.rounds and name != "ordertrail":
            ours = bout.rounds["ordertrail"]
            ratios = {key: medians[key] / _median(ours, key) for key in ("whole_s", "load_s")}
            entry |= {f"{key.removesuffix('_s')}_to_ordertrail": round(ratio, 2) for key, ratio in ratios.items()}
            entry["load_to_ordertrail_pass"] = round(medians["load_s"] / _median(ours, "pass_s"), 2)
        entry["rounds"] = [{key: _rounded(value) for key, value in one.items()} for one in rounds]
        contenders[name] = entry
    case = bout.case
    return {
        "rows": case.rows,
        "batch_rows": case.batch_rows,
        "update_share": case.update_share,
        "keys": case.keys,
        "measured_at": measured_at(),
        "load_average_1_min": round(os.getloadavg()[0], 1),
        "contenders": contenders,
    }


def beside(found: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Figures of cases that were measured together: the larger ones get ordertrail's of the smallest, as `beside_1m`.

    Only figures of the same rounds tell what the size of the table costs.
    """
    least = min(found, key=lambda case: int(str(case["rows"])))
    contenders = least["contenders"]
    assert isinstance(contenders, dict)
    if "ordertrail" not in contenders:
        return list(found)
    ours = {key: contenders["ordertrail"][key] for key in ("whole_s", "load_s", "pass_s", "peak_mb")}
    name = f"beside_{size_text(int(str(least['rows'])))}"
    return [case if case["rows"] == least["rows"] else {**case, name: ours} for case in found]


def table(found: Mapping[str, object]) -> str:
    """The figures of a case, for people."""
    lines = ["{batch_rows:,} rows, {update_share} % updates, {keys} keys, into {rows:,} rows".format(**found)]
    lines.append(f"{'':26}{'whole s':>10}{'':>8}{'load s':>10}{'':>8}{'to pass':>10}{'peak MB':>10}")
    contenders = found["contenders"]
    assert isinstance(contenders, dict)
    for name, one in contenders.items():
        keys = ("whole_to_ordertrail", "load_to_ordertrail", "load_to_ordertrail_pass")
        whole, load, to_pass = (f"{one[key]:.1f}×" if key in one else "" for key in keys)
        if "pass_s" in one:
            to_pass = f"{one['pass_s']:.2f} s"
        seconds = f"{one['whole_s']:10.2f}{whole:>8}{one['load_s']:10.2f}{load:>8}"
        lines.append(f"{name:26}{seconds}{to_pass:>10}{one.get('peak_mb', ''):>10}")
    return "\n".join(lines)


def keep(found: Sequence[Mapping[str, object]]) -> None:
    """Put the figures of some cases into `bench/results/upsert.json`."""
    path = RESULTS / "upsert.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    cases = {_identity(case): case for case in [*before.get("cases", []), *found]}
    ordered = [cases[identity] for identity in sorted(cases)]
    write("upsert", {"spark": spark.about(), "cases": ordered})


def sizes(text: str) -> list[int]:
    """Numbers such as `1k,100k,10m`."""
    units = {"k": 1000, "m": 1_000_000}
    return [int(word.rstrip("km")) * units.get(word[-1], 1) for word in text.lower().split(",")]


def size_text(rows: int) -> str:
    """A number as `sizes` reads it: `100k`, `10m`."""
    if rows % 1_000_000 == 0:
        return f"{rows // 1_000_000}m"
    return f"{rows // 1000}k" if rows % 1000 == 0 else str(rows)


def _identity(case: Mapping[str, object]) -> tuple[str, int, int, int]:
    batch, share, rows = (int(str(case[key])) for key in ("batch_rows", "update_share", "rows"))
    return str(case["keys"]), batch, share, rows


def _median(rounds: Sequence[Mapping[str, object]], key: str) -> float:
    return round(statistics.median(float(str(one[key])) for one in rounds), 3)


def _rounded(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


def short(found: Mapping[str, object]) -> str:
    """The figures of one turn on a line."""
    keys = ("whole_s", "load_s", "peak_mb")
    return ", ".join(f"{key} {float(str(found[key])):.2f}" for key in keys if key in found)


def _peers(names: str | None) -> list[str]:
    lacking = spark.missing()
    wanted = names.split(",") if names else [name for name, one in CONTENDERS.items() if one.default]
    if unknown := [name for name in wanted if name not in CONTENDERS]:
        raise SystemExit(f"no such contender: {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    if lacking and any(CONTENDERS[name].spark for name in wanted):
        print(f"without Spark: {lacking}")
        wanted = [name for name in wanted if not CONTENDERS[name].spark]
    return wanted


def main() -> None:
    """Measure, keep the figures, and draw the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=sizes, default=[10_000_000], help="rows of the table: 1m,10m,100m")
    parser.add_argument("--batches", type=sizes, default=[100_000], help="rows of a batch: 1k,100k,1m")
    parser.add_argument("--shares", type=sizes, default=[50], help="updates among them, in percent: 0,50,100")
    parser.add_argument("--keys", default="random", help="random,clustered")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", help=f"who takes part, of {','.join(CONTENDERS)}; ordertrail for ratios")
    parser.add_argument("--work", type=Path, help="a folder to keep the built tables in, for the next command")
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures, draw nothing")
    options = parser.parse_args()
    contenders = _peers(options.peers)
    # Ended from outside, it still takes its gigabytes away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as scratch:
        work: Path = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(work.resolve(), contenders)
        try:
            for keys, batch, share in product(options.keys.split(","), options.batches, options.shares):
                cases = [Case(rows, batch, share, keys) for rows in options.sizes if batch * share <= rows * 100]
                found = bench.measure(cases, options.rounds)
                for line in map(table, found):
                    print(line, flush=True)
                if not options.only_try:
                    keep(found)
        finally:
            bench.close()
    if not options.only_try:
        chart.draw()


if __name__ == "__main__":
    main()
