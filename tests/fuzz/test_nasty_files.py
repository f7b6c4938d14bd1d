"""Fuzz: 200 nasty files and names. No traceback, good files load, each bad one ends with a reason, nothing is lost."""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from ordertrail import Pipeline
from ordertrail.config import Config, parse_config
from ordertrail.delta.table import Table, scan_sql
from ordertrail.markers import MARKER
from ordertrail.model import SET_ASIDE, DeliveryReport, RunReport, State
from ordertrail.rules.filekey import clean_name
from ordertrail.rules.tables import target_columns
from tests.depth import share
from tests.fuzz.nasty import LEFT, VENDORS_TOML, NastyFile, nasty_files

pytestmark = pytest.mark.fuzz

MTIME_NS = 1_763_683_200 * 10**9  # 2025-11-21, a year before the rows' own date
FILES = nasty_files()
PASSES = share(40)


def make_config(base: Path) -> Config:
    text = (
        '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n'
        "threads = 2\nmemory_limit_mb = 1024\n[contract]\nmax_future_h = 1000000\n" + VENDORS_TOML
    )
    base.mkdir(exist_ok=True)
    return parse_config(text, base=base, environ={})


def put(config: Config, files: Iterable[NastyFile]) -> None:
    for file in files:
        path = os.path.join(os.fsencode(config.source), file.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as out:
            out.write(file.content)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))


def contents(*folders: Path) -> Counter[str]:
    """SHA-256 of every regular file below some folders."""
    found: Counter[str] = Counter()
    for folder in folders:
        for place, _, names in os.walk(os.fsencode(folder)):
            for name in set(names) - {os.fsencode(MARKER)}:
                with open(os.path.join(place, name), "rb") as file:
                    found[hashlib.sha256(file.read()).hexdigest()] += 1
    return found


def shown(path: bytes) -> str:
    """A path as reports show it."""
    return clean_name(os.fsdecode(path))


def read_table(config: Config, name: str) -> list[dict[str, object]]:
    """A table as delta-rs reads it."""
    rows: list[dict[str, object]] = arrow_table(config.table_path(name)).to_pylist()
    return rows


def arrow_table(path: Path) -> pa.Table:
    """A table with delta-rs' query engine: its own reader of Arrow tables refuses deletion vectors."""
    return pa.table(QueryBuilder().register("t", DeltaTable(path)).execute("SELECT * FROM t"))


def test_there_are_at_least_200_and_they_are_always_the_same() -> None:
    assert len(FILES) >= 200
    assert nasty_files() == FILES
    assert len({file.path for file in FILES}) == len(FILES)
    assert len({key for file in FILES for key in file.keys}) == sum(len(file.keys) for file in FILES)


class Outcome:
    """All passes over the nasty files, put together."""

    def __init__(self, config: Config, reports: Sequence[RunReport]) -> None:
        self.config = config
        self.deliveries: list[DeliveryReport] = [d for report in reports for d in report.deliveries]
        self.skipped = {skip.file_name: skip.reason for report in reports for skip in report.skipped}
        self.warnings = [warning for report in reports for warning in report.warnings]

    def check(self, files: Sequence[NastyFile]) -> None:
        self._each_file_has_an_end(files)
        self._no_file_is_lost(files)
        self._good_rows_are_in_the_target(files)
        self._counts_agree_with_the_tables()
        self._tables_are_readable_by_all()
        self._a_second_pass_is_stable()

    def _each_file_has_an_end(self, files: Sequence[NastyFile]) -> None:
        assert self.warnings == []
        by_hash = {(d.sha256, d.vendor, d.file_name): d for d in self.deliveries}
        assert len(by_hash) == len(self.deliveries) == sum(LEFT not in file.fates for file in files)
        wrong: list[str] = []
        for file in files:
            name = shown(file.path)
            if LEFT in file.fates:
                if not self.skipped.get(name) and not file.path.rpartition(b"/")[2].startswith(b"."):
                    wrong.append(f"{name!r} was left without a reason")
                continue
            sha256 = hashlib.sha256(file.content).hexdigest()
            found = [d for (sha, _, last), d in by_hash.items() if (sha, last) == (sha256, name.rpartition("/")[2])]
            if len(found) != 1:
                wrong.append(f"{name!r} has {len(found)} deliveries")
                continue
            delivery = found[0]
            if delivery.state not in file.fates and delivery.state is not State.DUPLICATE:
                wrong.append(f"{name!r} is {delivery.state}, not {file.fates}: {delivery.reason} {delivery.rows}")
            elif file.rows is not None and delivery.rows.parsed - delivery.rows.rejected != file.rows:
                wrong.append(f"{name!r}: {delivery.rows}, not {file.rows} good rows")
            if (delivery.reason is None) != (delivery.state is State.LOADED) or not delivery.rows.balanced:
                wrong.append(f"{name!r}: {delivery}")
        assert wrong == []

    def _no_file_is_lost(self, files: Sequence[NastyFile]) -> None:
        put_there = Counter(hashlib.sha256(file.content).hexdigest() for file in files)
        assert contents(self.config.source, self.config.archive) == put_there
        left = contents(self.config.source)
        assert left == Counter(hashlib.sha256(f.content).hexdigest() for f in files if LEFT in f.fates)
        for delivery in self.deliveries:
            assert delivery.archived_to is not None
            archived = self.config.archive / delivery.archived_to
            assert hashlib.sha256(archived.read_bytes()).hexdigest() == delivery.sha256
            assert delivery.archived_to.startswith("quarantine/") == (delivery.state in SET_ASIDE)

    def _good_rows_are_in_the_target(self, files: Sequence[NastyFile]) -> None:
        rows = {str(row["tracking_num"]): row for row in read_table(self.config, self.config.tables.target)}
        keys = [key for file in files for key in file.keys]
        assert [key for key in keys if key not in rows] == []
        assert all(rows[key]["order_num"] == f"O{key}" for key in keys)

    def _counts_agree_with_the_tables(self) -> None:
        tables = self.config.tables
        recorded = {row["delivery_id"]: row for row in read_table(self.config, tables.deliveries)}
        assert set(recorded) == {d.delivery_id for d in self.deliveries}
        history = Counter(row["_delivery_id"] for row in read_table(self.config, tables.history))
        rejects = read_table(self.config, tables.rejects)
        rejected = {(row["delivery_id"], row["file_row"]) for row in rejects if row["file_row"] is not None}
        rejected_rows = Counter(delivery for delivery, _ in rejected)
        for d in self.deliveries:
            assert recorded[d.delivery_id]["state"] == d.state
            assert recorded[d.delivery_id]["archived_to"] == d.archived_to
            if d.state is State.LOADED:
                assert history[d.delivery_id] == d.rows.parsed - d.rows.rejected
                assert rejected_rows[d.delivery_id] == d.rows.rejected
            else:
                assert history[d.delivery_id] == 0
            if d.state is State.QUARANTINED:
                assert any(row["delivery_id"] == d.delivery_id and row["reason"] and row["rule"] for row in rejects)
        for row in rejects:
            assert row["rule"]
            assert row["reason"]
            assert (row["raw"] is None) == (row["file_row"] is None)

    def _tables_are_readable_by_all(self) -> None:
        tables = self.config.tables
        for name in (tables.target, tables.history, tables.rejects, tables.deliveries, tables.stage):
            path = self.config.table_path(name)
            table = arrow_table(path)
            table.validate(full=True)  # among others: text is valid UTF-8
            assert polars.scan_delta(str(path)).collect().height == table.num_rows
        columns = target_columns(self.config.contract)
        with duckdb.connect() as con:
            snapshot = Table(self.config.table_path(tables.target), columns).snapshot()
            [(ours, keys)] = con.execute(
                f"SELECT count(*), count(DISTINCT tracking_num) FROM {scan_sql(con, snapshot, columns)}"
            ).fetchall()
        assert ours == keys == len(read_table(self.config, tables.target))

    def _a_second_pass_is_stable(self) -> None:
        root = self.config.table_path(self.config.tables.target).parent
        versions = [DeltaTable(path).version() for path in sorted(root.iterdir())]
        report = Pipeline(self.config).run()
        assert (report.batch, report.deliveries, report.warnings) == (None, (), ())
        assert [DeltaTable(path).version() for path in sorted(root.iterdir())] == versions


def test_all_in_one_pass(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    put(config, FILES)
    Outcome(config, [Pipeline(config).run()]).check(FILES)


def test_links_folders_and_pipes_named_like_files_are_left_alone(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    good = next(file for file in FILES if file.path == b"crlf.csv")
    put(config, [good])
    secret = tmp_path / "secret.csv"
    secret.write_bytes(good.content)
    (config.source / "link.csv").symlink_to(secret)
    (config.source / "dangling.csv").symlink_to("nowhere")
    (config.source / "folder.csv").mkdir()
    os.mkfifo(config.source / "pipe.csv")
    report = Pipeline(config).run()
    assert [(d.file_name, d.state) for d in report.deliveries] == [("crlf.csv", State.LOADED)]
    left = {"link.csv", "dangling.csv", "folder.csv", "pipe.csv"}
    assert {p.name for p in config.source.iterdir()} == left | {MARKER}
    assert {skip.file_name for skip in report.skipped} >= {"link.csv", "dangling.csv", "pipe.csv"}
    assert all(skip.reason for skip in report.skipped)


@pytest.mark.slow
def test_in_many_passes(tmp_path: Path) -> None:
    """One after the other, and a last pass that finds all that is left."""
    config = make_config(tmp_path)
    shuffled = random.Random(7).sample(FILES, len(FILES))
    reports = []
    for start in range(PASSES):
        put(config, shuffled[start::PASSES])
        reports.append(Pipeline(config).run())
    Outcome(config, reports).check(shuffled)


@pytest.mark.parametrize("folder", ["it's here", "100% [a-z]", "two\nlines", "'; DROP TABLE x; --"])
def test_in_a_folder_with_a_nasty_name(tmp_path: Path, folder: str) -> None:
    config = make_config(tmp_path / folder)
    some = [file for file in FILES if file.path.startswith((b"bad cell 0", b"first of", b"noise 0", b"zip"))]
    for half in (some[::2], some[1::2]):
        put(config, half)
        report = Pipeline(config).run()
        assert len(report.deliveries) == len(half)
        assert report.warnings == ()
    with duckdb.connect() as con:
        columns = target_columns(config.contract)
        scan = scan_sql(con, Table(config.table_path(config.tables.target), columns).snapshot(), columns)
        found = {key for (key,) in con.execute(f"SELECT tracking_num FROM {scan}").fetchall()}
    assert found >= {key for file in some for key in file.keys}
