"""A small pipeline on disk, what is in it, and what must be true of it whatever happened."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from ordertrail.config import Config, parse_config
from ordertrail.delta.log import LogStore
from ordertrail.engines.embedded.engine import EmbeddedEngine
from ordertrail.markers import MARKER
from ordertrail.model import Probe, RunReport, Vendor, no_probe
from ordertrail.pipeline import Pipeline
from tests.feeds import FeedFile, cells, csv_bytes, write_files
from tests.harness import CLOCKS
from tests.oracle import judge, judge_file, keyed

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("orders_stage", "orders_target", "orders_history", "orders_rejects", "orders_deliveries")
MAX_REJECT_SHARE = 0.5
MTIME_NS = 1_795_000_000 * 10**9

PLAIN_CONFIG = f"""
[pipeline]
source = "source"
archive = "archive"
warehouse = "warehouse"
settle_s = 0
max_reject_share = {MAX_REJECT_SHARE}
threads = 1
memory_limit_mb = 256

[[vendors]]
name = "acme"
files = "acme/*.csv"

[[vendors]]
name = "blue"
files = "blue/*.csv"
"""
APPEND_CONFIG = PLAIN_CONFIG.replace("[pipeline]", '[pipeline]\nmode = "append"')
ABSENT_CONFIG = PLAIN_CONFIG + 'absent = ["address"]\n'

Row = dict[str, Any]
Json = dict[str, Any]


def file(path: str, *rows: tuple[str, ...], hour: int = 0) -> FeedFile:
    """A file of the feed with these rows."""
    return FeedFile(path, csv_bytes(rows), MTIME_NS + hour * 3600 * 10**9)


def row(key: str, hour: int, status: str = "IN_TRANSIT", address: str = "X") -> tuple[str, ...]:
    """A good row; `hour` is its event time, 0 to 23."""
    return cells(key, f"2026-11-20 {hour:02d}:00:00", status, address)


_BAD = ("O9", "009", "2026-02-30", "", "IN_TRANSIT", "X", "2026-11-20 08:00:00")
_DAY_21 = (row("002", 9, "DELIVERED"), row("004", 8), row("003", 6, "PICKED_UP"))
BATCHES: tuple[tuple[FeedFile, ...], ...] = (
    (
        # A reject, a row twice, rows that the second file supersedes; and a file that is quarantined.
        file(
            "acme/order_tracking_2026_11_20.csv",
            row("001", 8),
            row("002", 8),
            row("003", 8),
            row("001", 8),
            _BAD,
            row("010", 8),
        ),
        file("acme/order_tracking_2026_11_21.csv", *_DAY_21),
        FeedFile("blue/broken_2026_11_20.csv", b"order_num,status\n1,X\n", MTIME_NS),
    ),
    (
        # Updates, unchanged, stale, a new key, a tie that only history can settle, a reject; and a duplicate file.
        file(
            "acme/order_tracking_2026_11_22.csv",
            row("001", 10, "DELIVERED"),
            row("002", 9, "DELIVERED"),
            row("003", 5),
            row("004", 8, address="Y"),
            row("005", 8),
            _BAD,
        ),
        file("acme/order_tracking_2026_11_19.csv", *_DAY_21),
        file("blue/updates_2026_11_20.csv", row("004", 8, address="Z"), row("006", 8)),
    ),
    (
        file("acme/order_tracking_2026_11_23.csv", row("001", 11), row("006", 9, "DELIVERED"), row("007", 8)),
        FeedFile("blue/empty_2026_11_23.csv", csv_bytes([]), MTIME_NS),
    ),
)


class State(NamedTuple):
    """All that a run that was never disturbed and one that was must have in common."""

    target: list[str]
    history: list[str]
    rejects: list[str]
    deliveries: list[str]
    archive: dict[str, str]
    waiting: list[str]


@dataclass(frozen=True, slots=True)
class World:
    """A pipeline in a folder.

    Attributes:
        base: The folder; `ordertrail.toml` is in it.
        settings: What a pass of the driver gets with every job, such as `share_rows`.
    """

    base: Path
    settings: Json = field(default_factory=dict)

    @staticmethod
    def make(base: Path, text: str = PLAIN_CONFIG, **settings: object) -> World:
        (base / "source").mkdir(parents=True)
        (base / "ordertrail.toml").write_text(text)
        return World(base, settings)

    def copy(self, base: Path) -> World:
        """The same again, elsewhere. Only of a world at rest: the copies are other inodes."""
        shutil.copytree(self.base, base)
        return World(base, self.settings)

    @property
    def config(self) -> Config:
        return parse_config((self.base / "ordertrail.toml").read_text(), base=self.base, environ={})

    @property
    def vendors(self) -> Sequence[Vendor]:
        return self.config.vendors

    @property
    def source(self) -> Path:
        return self.base / "source"

    @property
    def archive(self) -> Path:
        return self.base / "archive"

    def table(self, name: str) -> Path:
        return self.config.table_path(name)

    def put(self, files: Sequence[FeedFile]) -> None:
        write_files(self.source, files)

    def run(self, probe: Probe = no_probe, store: LogStore | None = None) -> RunReport:
        """A pass in this process."""

        def engine(config: Config, probe: Probe) -> EmbeddedEngine:
            return EmbeddedEngine(config, probe, store)

        return Pipeline(self.config, probe=probe, engine=engine).run()

    def rows(self, name: str, version: int | None = None) -> list[Row]:
        """The rows of a table, as delta-rs reads them."""
        table = DeltaTable(self.table(name), version=version)
        return list(pa.table(QueryBuilder().register("t", table).execute("SELECT * FROM t")).to_pylist())

    def state(self) -> State:
        """What is there, with every clock replaced by the number of the batch whose clock it is."""
        deliveries = self.rows("orders_deliveries")
        clocks = {entry["staged_at"]: f"clock of batch {entry['batch']}" for entry in deliveries}
        assert len(clocks) == len(set(clocks.values())), "a batch has two clocks"

        def shown(name: str, rows: list[Row]) -> list[str]:
            return sorted(repr(_comparable(name, entry, clocks)) for entry in rows)

        return State(
            target=shown("orders_target", self.rows("orders_target")),
            history=shown("orders_history", self.rows("orders_history")),
            rejects=shown("orders_rejects", self.rows("orders_rejects")),
            deliveries=shown("orders_deliveries", deliveries),
            archive=self.archived(),
            waiting=self.waiting(),
        )

    def archived(self) -> dict[str, str]:
        """SHA-256 of the archive's files by path, hidden ones too; the day does not count."""
        return {_no_day(path): sha256 for path, sha256 in self.shelf().items()}

    def shelf(self) -> dict[str, str]:
        """SHA-256 of the archive's files by path, hidden ones too, but for its marker."""
        found = (path for path in self.archive.rglob("*") if path.is_file() and path.name != MARKER)
        return {str(p.relative_to(self.archive)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}

    def waiting(self) -> list[str]:
        """What is in the source folder, hidden names too, but for its marker."""
        found = (path for path in self.source.rglob("*") if not path.is_dir() and path.name != MARKER)
        return sorted(str(path.relative_to(self.source)) for path in found)

    def txns(self, name: str) -> list[list[int]]:
        """The batch numbers in each commit of a table after the first, ours and foreign ones."""
        found = []
        for path in sorted((self.table(name) / "_delta_log").glob("*.json"))[1:]:
            actions = [json.loads(line) for line in path.read_text().splitlines()]
            found.append([action["txn"]["version"] for action in actions if "txn" in action])
        return found

    def check(self, files: Sequence[FeedFile]) -> None:
        """What must be true at rest after these files, however often the passes were disturbed."""
        verdict = judge(files, None, self.vendors, max_reject_share=MAX_REJECT_SHARE)
        self._check_target(files, None)
        deliveries = self.rows("orders_deliveries")
        assert Counter(d["sha256"] for d in deliveries) == Counter(v.sha256 for v in verdict.files)
        self.check_books(deliveries)
        last = max((d["batch"] for d in deliveries), default=0)
        for name in TABLES:
            once = [[number] for number in range(1, last + 1)]
            # The deliveries table has two commits a batch: the done mark, and the mark that its files are archived.
            expected = [txn for txn in once for _ in range(2)] if name == "orders_deliveries" else once
            assert self.txns(name) == expected, f"commits of {name}"
        shelf = self.shelf()
        assert {d["archived_to"]: d["sha256"] for d in deliveries} == shelf
        assert len(shelf) == len(deliveries)
        assert self.waiting() == []

    def _check_target(self, files: Sequence[FeedFile], version: int | None) -> None:
        """The target is what these files must give: the latest row of each key or, in mode `append`, each row once."""
        rows = self.rows("orders_target", version)
        if not self.config.appends:
            verdict = judge(files, None, self.vendors, max_reject_share=MAX_REJECT_SHARE)
            assert keyed(rows) == verdict.target, f"version {version}"
            return
        names = self.config.contract.names
        said = (judge_file(file, self.config.contract, self.vendors, MAX_REJECT_SHARE, 5) for file in files)
        wanted = {tuple(row.values[name] for name in names) for verdict, found in said for row in found}
        assert Counter(tuple(row[name] for name in names) for row in rows) == Counter(wanted), f"version {version}"

    def check_books(self, deliveries: list[Row]) -> None:
        """P3 again from the tables: history and rejects hold what the deliveries say, each row once."""
        history = self.rows("orders_history")
        assert max(Counter((h["_delivery_id"], h["_file_row"]) for h in history).values(), default=1) == 1
        outcomes = Counter((h["_delivery_id"], h["_outcome"]) for h in history)
        bad_rows = Counter(d for d, _ in {(r["delivery_id"], r["file_row"]) for r in self.rows("orders_rejects")})
        assert len({d["delivery_id"] for d in deliveries}) == len(deliveries)
        for delivery in deliveries:
            name = delivery["delivery_id"]
            counted = {o: delivery[f"rows_{o}"] for o in ("inserted", "updated", "unchanged", "stale", "superseded")}
            assert counted == {o: outcomes[name, o] for o in counted}, name
            whole_file = delivery["rows_parsed"] if delivery["state"] == "duplicate" else 0
            assert delivery["rows_duplicate"] == outcomes[name, "duplicate"] + whole_file, name
            total = sum(counted.values()) + delivery["rows_duplicate"] + delivery["rows_rejected"]
            assert delivery["rows_parsed"] == total, name
            if delivery["state"] == "loaded":
                assert delivery["rows_rejected"] == bad_rows[name], name

    def check_versions(self, batches: Sequence[Sequence[FeedFile]]) -> None:
        """P4: the target has one version a batch, and each is what the files until then must give."""
        for version in range(len(batches) + 1):
            files = [file for batch in batches[:version] for file in batch]
            self._check_target(files, version)


def distinct(effects: Sequence[str]) -> list[int]:
    """Places of the effects, without those that nothing lies between: a kill at either is the same."""
    places = []
    for place, name in enumerate(effects):
        before = effects[place - 1] if place else ""
        after = effects[place + 1] if place + 1 < len(effects) else ""
        committed = name.startswith("after put") and (after.endswith(".committed") or after.startswith("before put"))
        written = name.startswith("before put") and before.endswith(".files")
        if not committed and not written:
            places.append(place)
    return places


def _no_day(path: str | None) -> str:
    return re.sub(r"(^|/)\d{4}/\d{2}/\d{2}/", r"\1DAY/", str(path))


def _comparable(name: str, entry: Row, clocks: dict[object, str]) -> Row:
    result = dict(entry)
    for column in CLOCKS & result.keys():
        if result[column] is not None:
            assert result[column] in clocks, f"{name}.{column} is the clock of no batch"
            result[column] = clocks[result[column]]
    if "archived_to" in result:
        result["archived_to"] = _no_day(result["archived_to"])
    return result


class Driver:
    """The driver script in its own process; see `driver.py`."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, world: World, **spec: object) -> Json:
        """A pass to its end."""
        ended = self.start(world, **spec)
        assert "stopped" not in ended
        return ended

    def start(self, world: World, **spec: object) -> Json:
        """A pass to its end or to the effect `stop_at`."""
        return self._ask({"do": "start", "pass": self._spec(world, spec)})

    def resume(self, started: Json) -> Json:
        """The rest of a pass that stopped."""
        return self._ask({"do": "resume", "child": started["child"]})

    def together(self, world: World, count: int, **spec: object) -> list[Json]:
        """Several passes at once."""
        return list(self._ask({"do": "together", "passes": [self._spec(world, spec)] * count})["ended"])

    def effects(self, world: World, **spec: object) -> list[str]:
        """Run an undisturbed pass; the effects it has."""
        ended = self.run(world, **spec)
        assert "batch" in ended, ended
        return list(ended["effects"])

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=30) == 0
        self._process.stdout.close()

    def _spec(self, world: World, spec: Json) -> Json:
        return {"base": str(world.base), **world.settings, **spec}

    def _ask(self, job: Json) -> Json:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: Json = json.loads(self._process.stdout.readline())
        assert "crashed" not in answer, "a pass ended with an error that is none of ours; see stderr"
        return answer
