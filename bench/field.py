"""A batch into a table that is there, beside the whole field: formats and tools, each in an environment of its own.

`python -m bench.field [--rows 10m] [--batch 100k] [--keys random] [--rounds 5] [--peers ...] [--work DIR]`. In turns,
as in `bench.upsert`: every contender once a round, with the same batches, half of each updates; before the first round
each has had one that is on no clock. `bench/field.toml` says what the environments are made of; `--work` keeps them.

Medians over the rounds, in seconds, of a contender:

- `whole_s`, its process from start to end, and `load_s`, the change of the table alone; of ordertrail `pass_s`, too;
- `cold_s`, its process when nothing of the table is in the machine's memory;
- `read_s`, reading all rows by its own reader after the batches, and `disk_mb`, what the table's folder takes then.

And whether it ends right: `same_rows` as the others after the batches; and, with a table of its own, what becomes of a
row that comes late (`late`), of a key that is in the batch twice (`repeat`), and of one that is there twice with one
time and two statuses, of which the later one in a shipment's life counts (`tie`): `right`, `wrong` or `refused`.
Figures are kept case by case in `bench/results/field.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from bench import tables, upsert
from bench.peers import COLUMN_TYPES
from bench.report import RESULTS, measured_at, timed, timed_command, write

CODE = "from bench.field_peers import main; main()"
TRAP_ROWS = 10_000
COLD_ROUNDS = 2
HEADER = ",".join(COLUMN_TYPES)


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to keep the table and bring a batch in.

    Attributes:
        about: What it is, in words.
        kind: Of its table, as in `bench.tables`; `own` is a format that only its environment reads.
        environment: In `field.toml`; None is this one.
        max_rows: Above that it takes no part.
    """

    about: str
    kind: str = "own"
    environment: str | None = None
    max_rows: int = 1 << 40


CONTENDERS: Mapping[str, Contender] = {
    "ordertrail": Contender("`ordertrail run`: parse, check, stage, load, history, archive", "ordertrail"),
    "delta_rs_merge": Contender("delta-rs merge", "delta"),
    "polars_merge": Contender('Polars\' write_delta(mode="merge")', "delta"),
    "floe": Contender("floe merge_scd1 into Delta; checks rows", "delta", "floe"),
    "duckdb_merge": Contender("DuckDB's MERGE into its own file", "duckdb"),
    "ducklake": Contender("DuckLake's MERGE", environment="ducklake"),
    "lance": Contender("Lance merge_insert, BTREE on the key", environment="lance"),
    "paimon": Contender(
        "PyPaimon, primary key and sequence.field; merges when read", environment="paimon", max_rows=1_000_000
    ),
    "iceberg": Contender("pyiceberg upsert", environment="iceberg", max_rows=1_000_000),
}


class Field:
    """The contenders, and where they are.

    Args:
        work: For environments, tables and batches.
        names: Who takes part.
    """

    def __init__(self, work: Path, names: Sequence[str]) -> None:
        self.work = work
        self.names = tuple(names)
        self._pythons = {name: environment(work, CONTENDERS[name].environment) for name in names}

    def place(self, name: str, table: Path) -> Path:
        """Where a contender's Delta table, database or pipeline is, given its folder."""
        return table / "orders" if name == "floe" else table

    def prepare(self, case: upsert.Case, base: Path, folder: Path) -> None:
        """Give each contender a table of its own with the same rows."""
        kinds = {CONTENDERS[name].kind for name in self.names} - {"own"} | {"delta"}
        tables.build(base, kinds, case.rows, ascending=case.ascending)
        files = sorted((base / "delta").glob("*.parquet"))
        for name in self.names:
            contender = CONTENDERS[name]
            if contender.kind != "own":
                tables.copy(base / contender.kind, self.place(name, folder / name))
            else:
                (folder / name).mkdir(parents=True)
                self._peer(name, "make", folder / name, *files)
            if name == "floe":
                _with_text_times(self.place(name, folder / name))

    def merge(self, name: str, table: Path, csv: Path) -> dict[str, object]:
        """Bring a batch in; the figures of the process."""
        contender = CONTENDERS[name]
        if contender.environment is None:
            if contender.kind == "ordertrail":
                shutil.copy2(csv, table / "in" / csv.name)
                time.sleep(upsert.NOT_RACY_S)
            os.sync()  # what the one before left to write is not on this one's clock
            return upsert.process(name, table, csv)
        os.sync()
        return self._peer(name, "merge", table, csv)

    def read(self, name: str, table: Path) -> dict[str, object]:
        """Read all rows."""
        if CONTENDERS[name].kind == "own":
            return self._peer(name, "read", table)
        code = "from bench.field import read_main; read_main()"
        return json.loads(timed(code, [CONTENDERS[name].kind, str(self.place(name, table))]).output)

    def rows(self, name: str, table: Path, con: duckdb.DuckDBPyConnection) -> str:
        """SQL of the table's rows."""
        kind, place = CONTENDERS[name].kind, self.place(name, table)
        if kind != "own":
            return tables.relation(kind, place, con)
        dump = table.parent / f"{name}.parquet"
        self._peer(name, "dump", table, dump)
        return f"read_parquet('{dump}')"

    def _peer(self, name: str, verb: str, table: Path, *arguments: Path) -> dict[str, object]:
        words = [str(self._pythons[name]), "-c", CODE, verb, name, str(table), *map(str, arguments)]
        run = timed_command(words)
        found: dict[str, object] = json.loads(run.output.splitlines()[-1])
        return {**found, "whole_s": run.wall_s, "cpu_s": run.cpu_s, "peak_mb": run.peak_mb}


def environment(work: Path, name: str | None) -> Path:
    """The interpreter of an environment, which is made when it is not there yet."""
    if name is None:
        return Path(sys.executable)
    requires = _requirements()[name]
    folder = work / f"environment-{name}"
    mark = folder / "requires.json"
    if not (mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == requires):
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, *requires], check=True)
        mark.write_text(json.dumps(requires), encoding="utf-8")
    return folder / "bin" / "python"


def read_main() -> None:
    """Read a table of this environment whole, given its kind and place; one JSON object."""
    began = time.perf_counter()
    with _connected() as con:
        reader = con.sql(f"FROM {tables.relation(sys.argv[1], Path(sys.argv[2]), con)}").to_arrow_reader(1 << 17)
        rows = sum(batch.num_rows for batch in reader)
    print(json.dumps({"rows": rows, "read_s": time.perf_counter() - began}))


# --- one case ----------------------------------------------------------------------------------------------------


def measure(field: Field, case: upsert.Case, rounds: int) -> dict[str, object]:
    """The figures of a case."""
    folder = field.work / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    field.prepare(case, field.work / f"base-{case.rows}-{case.keys}", folder)
    warm: dict[str, list[dict[str, object]]] = {name: [] for name in field.names}
    cold: dict[str, list[float]] = {name: [] for name in field.names}
    for number in range(1 + rounds + COLD_ROUNDS):
        csv = case.write_batch(folder, number)
        shift = number % len(field.names)
        for name in field.names[shift:] + field.names[:shift]:
            chilled = number > rounds
            if chilled:
                _forget(folder / name)
            found = field.merge(name, folder / name, csv)
            print(f"round {number}, {name}: {upsert.short(found)}{' cold' if chilled else ''}", flush=True)
            if chilled:
                cold[name].append(float(str(found["whole_s"])))
            elif number:
                warm[name].append(found)
        csv.unlink()
    reads = {name: field.read(name, folder / name) for name in field.names}
    sizes = {name: _disk_mb(folder / name) for name in field.names}
    prints = {name: _fingerprint(field, name, folder / name) for name in field.names}
    agreed = statistics.mode(prints.values())
    shutil.rmtree(folder)
    found = {
        name: {
            "about": CONTENDERS[name].about,
            **{key: _median(warm[name], key) for key in ("whole_s", "load_s", "pass_s") if key in warm[name][0]},
            "cold_s": round(statistics.median(cold[name]), 3),
            "read_s": round(float(str(reads[name]["read_s"])), 3),
            "peak_mb": round(max(float(str(one["peak_mb"])) for one in warm[name])),
            "disk_mb": sizes[name],
            "same_rows": prints[name] == agreed,
        }
        for name in field.names
    }
    return {
        "rows": case.rows, "batch_rows": case.batch_rows, "update_share": case.update_share, "keys": case.keys,
        "rounds": rounds, "measured_at": measured_at(), "load_average_1_min": round(os.getloadavg()[0], 1),
        "contenders": found,
    }  # fmt: skip


def traps(field: Field) -> dict[str, dict[str, str]]:
    """What each contender makes of a row that comes late, and of keys that are in a batch twice."""
    folder = field.work / "traps"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    case = upsert.Case(TRAP_ROWS, 0, 0, "random")
    field.prepare(case, field.work / f"base-{TRAP_ROWS}-random", folder)
    found: dict[str, dict[str, str]] = {}
    for name in field.names:
        made = {}
        for number, (trap, lines) in enumerate(TRAPS.items()):
            csv = folder / tables.batch_name(number)
            csv.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
            made[trap] = _trapped(field, name, folder / name, csv, trap)
        del made["first"]
        found[name] = made
    shutil.rmtree(folder)
    return found


def _row(key: str, status: str, clock: str) -> str:
    return f"1,{key},2026-11-20,,{status},trap,2026-11-{clock}"


TRAPS: Mapping[str, Sequence[str]] = {
    "first": [_row("LATE", "DELIVERED", "02 10:00:00")],
    "late": [_row("LATE", "IN_TRANSIT", "01 10:00:00")],
    "tie": [_row("TIE", "DELIVERED", "02 10:00:00"), _row("TIE", "IN_TRANSIT", "02 10:00:00")],
    "repeat": [_row("REPEAT", "DELIVERED", "02 10:00:00"), _row("REPEAT", "IN_TRANSIT", "01 10:00:00")],
}
"""Batches of a few rows; after each of the last three its key must be `DELIVERED`."""


def _trapped(field: Field, name: str, table: Path, csv: Path, trap: str) -> str:
    try:
        field.merge(name, table, csv)
    except RuntimeError:
        return "refused"
    with _connected() as con:
        sql = f"SELECT status FROM {field.rows(name, table, con)} WHERE tracking_num = '{trap.upper()}'"
        found = [row[0] for row in con.execute(sql).fetchall()]
    return "right" if found == ["DELIVERED"] or trap == "first" else "wrong"


# --- parts -------------------------------------------------------------------------------------------------------


def _requirements() -> Mapping[str, list[str]]:
    told = tomllib.loads((Path(__file__).parent / "field.toml").read_text(encoding="utf-8"))
    return {name: one["requires"] for name, one in told.items()}


def _with_text_times(table: Path) -> None:
    """Write a Delta table anew with the event time as text, as floe's contract has it."""
    from deltalake import DeltaTable, write_deltalake

    with _connected() as con:
        con.register("rows", DeltaTable(table).to_pyarrow_dataset())
        names = ", ".join(name for name in COLUMN_TYPES if name != "last_update_timestamp")
        text = "strftime(last_update_timestamp, '%Y-%m-%d %H:%M:%S') AS last_update_timestamp"
        reader = con.sql(f"SELECT {names}, {text} FROM rows").to_arrow_reader(1 << 17)
        key_given = pa.schema([one.with_nullable(one.name != "tracking_num") for one in reader.schema])
        shutil.rmtree(table.with_name("anew"), ignore_errors=True)
        batches = pa.RecordBatchReader.from_batches(key_given, (batch.cast(key_given) for batch in reader))
        write_deltalake(table.with_name("anew"), batches)
    shutil.rmtree(table)
    table.with_name("anew").rename(table)


def _fingerprint(field: Field, name: str, table: Path) -> tuple[int, int]:
    with _connected() as con:
        return tables.fingerprint_of(con, field.rows(name, table, con))


def _connected() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    return con


def _forget(table: Path) -> None:
    """Take a table's files out of the machine's memory."""
    os.sync()
    for path in table.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _disk_mb(table: Path) -> int:
    return round(sum(path.stat().st_size for path in table.rglob("*") if path.is_file()) / 1e6)


def _median(rounds: Sequence[Mapping[str, object]], key: str) -> float:
    return round(statistics.median(float(str(one[key])) for one in rounds), 3)


def keep(found: Mapping[str, object] | None, trapped: Mapping[str, object]) -> None:
    """Put the figures of a case, and what became of the traps, into `bench/results/field.json`."""
    path = RESULTS / "field.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    same = ("rows", "batch_rows", "update_share", "keys")
    cases = before.get("cases", [])
    if found is not None:
        cases = [*(case for case in cases if [case[key] for key in same] != [found[key] for key in same]), found]
    cases = sorted(cases, key=lambda case: [str(case[key]) for key in same])
    write("field", {"environments": _requirements(), "traps": {**before.get("traps", {}), **trapped}, "cases": cases})


def main() -> None:
    """Measure one case and the traps, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=upsert.sizes, default=[10_000_000])
    parser.add_argument("--batch", type=upsert.sizes, default=[100_000])
    parser.add_argument("--keys", default="random", help="random or clustered")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default=",".join(CONTENDERS))
    parser.add_argument("--work", type=Path, help="a folder to keep environments and built tables in")
    parser.add_argument("--traps", action="store_true", help="only see what becomes of the traps")
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures")
    options = parser.parse_args()
    rows, batch, names = options.rows[0], options.batch[0], options.peers.split(",")
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as scratch:
        work = (options.work or Path(scratch)).resolve()
        trapped, found = traps(Field(work, names)), None
        if not options.traps:
            field = Field(work, [name for name in names if rows <= CONTENDERS[name].max_rows])
            found = measure(field, upsert.Case(rows, batch, 50, options.keys), options.rounds)
    print(json.dumps({"traps": trapped, "case": found}, indent=2))
    if not options.only_try:
        keep(found, trapped)


if __name__ == "__main__":
    main()
