"""What may be deleted of a table and its log, and what is worth writing again, on tables made by hand."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ordertrail.config import Maintenance
from ordertrail.delta.actions import WITH_VECTORS, AddFile, Metadata, schema_string
from ordertrail.delta.debt import commits_behind, compactions, debt_of, reasons
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.log_cleanup import checkpoint, clean_up, plan_clean_up, prove
from ordertrail.delta.snapshot import Snapshot, read_snapshot
from ordertrail.delta.vacuum import needed, plan_sweep, sweep
from ordertrail.delta.vectors import write_vectors
from ordertrail.errors import TableError
from ordertrail.keep.compact import moved
from ordertrail.model import no_probe

NOW_S = 1_800_000_000.0
HOUR_S = 3600.0
KEEP_S = 10 * HOUR_S


@dataclass(slots=True)
class Handmade:
    """A table with commits that hold what a test says, each an hour older than the next; the last is as old as now."""

    root: Path
    properties: dict[str, str] = field(default_factory=dict)
    version: int = -1

    @property
    def log(self) -> DeltaLog:
        return DeltaLog(self.root)

    def begin(self) -> Handmade:
        self.log.folder.mkdir(parents=True)
        schema = schema_string([("tracking_num", "string", True)])
        metadata = Metadata(str(uuid.uuid4()), schema, (), self.properties, 0)
        return self.commit([WITH_VECTORS.action(), metadata.action()])

    def commit(self, actions: Sequence[dict[str, Any]], age_h: float = 0.0) -> Handmade:
        self.version += 1
        self.log.commit(self.version, [{"commitInfo": {"operation": "TEST", "txnId": str(self.version)}}, *actions])
        age(self.entry(self.version), age_h)
        return self

    def entry(self, version: int) -> Path:
        return self.log.folder / f"{version:020d}.json"

    def file(self, name: str, age_h: float, vector: Sequence[int] = ()) -> AddFile:
        """A file, and perhaps its vector, so many hours old."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PAR1")
        age(path, age_h)
        descriptor = None
        if vector:
            before = set(self.root.glob("_dv/*"))
            descriptor = json.dumps(write_vectors(self.root, [np.array(vector)])[0])
            for made in set(self.root.glob("_dv/*")) - before:
                age(made, age_h)
        return AddFile(name.replace(" ", "%20"), 4, 0, json.dumps({"numRecords": 10}), descriptor)

    def removed(self, file: AddFile, age_h: float) -> dict[str, Any]:
        return file.remove(int((NOW_S - age_h * HOUR_S) * 1000))

    def swept(self, keep_s: float = KEEP_S) -> set[str]:
        """What a sweep deletes; what it plans is what goes."""
        there = self.here()
        plan = plan_sweep(self.log, keep_s, NOW_S)
        if plan is None:
            return set()
        assert sweep(self.log, plan, keep_s, NOW_S, no_probe) == len(plan.files)
        assert there - self.here() == set(plan.files)
        return set(plan.files)

    def here(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}


def age(path: Path, age_h: float) -> None:
    at_ns = int((NOW_S - age_h * HOUR_S) * 1e9)
    os.utime(path, ns=(at_ns, at_ns))


@pytest.fixture
def table(tmp_path: Path) -> Handmade:
    return Handmade(tmp_path / "orders_target").begin()


# --- files -------------------------------------------------------------------------------------------------------


def test_what_is_live_stays_however_old(table: Handmade) -> None:
    files = [table.file("a.parquet", 999), table.file("part 1/b c.parquet", 999), table.file("v.parquet", 999, [1, 2])]
    table.commit([file.add() for file in files])
    assert table.swept() == set()
    assert needed(table.log, KEEP_S, NOW_S) >= {"a.parquet", "part 1/b c.parquet", "v.parquet"}


def test_what_was_taken_out_lately_stays_for_readers_that_began_before(table: Handmade) -> None:
    late, early = table.file("late.parquet", 99, [1]), table.file("early.parquet", 99, [1])
    vector_of = {file.path: next(iter(table_vectors(table, file))) for file in (late, early)}
    table.commit([late.add(), early.add()])
    table.commit([table.removed(late, 9.9), table.removed(early, 10.1)])
    assert table.swept() == {"early.parquet", vector_of["early.parquet"]}


def test_an_old_vector_of_a_live_file_goes_and_the_new_one_stays(table: Handmade) -> None:
    first = table.file("a.parquet", 99, [1])
    second = table.file("a.parquet", 99, [1, 2])
    table.commit([first.add()])
    table.commit([table.removed(first, 11), second.add()])
    assert table.swept() == table_vectors(table, first)
    assert table_vectors(table, second) <= table.here()


def test_what_nobody_names_goes_when_it_is_old_enough(table: Handmade) -> None:
    table.file("orphan.parquet", 11)
    table.file("being written.parquet", 9)
    table.file("deletion_vector_1.bin", 11)
    table.file("_dv/.deletion_vector_2.bin.tmp", 11)
    assert table.swept() == {"orphan.parquet", "deletion_vector_1.bin", "_dv/.deletion_vector_2.bin.tmp"}


def test_what_is_not_a_tables_own_stays(table: Handmade) -> None:
    for name in ("_index/x.parquet", ".hidden.parquet", "_x.parquet", ".d/y.parquet", "README", "d/_dv/z.parquet"):
        table.file(name, 999)
    elsewhere = table.root.parent / "elsewhere.parquet"
    elsewhere.write_bytes(b"PAR1")
    (table.root / "link.parquet").symlink_to(elsewhere)
    age(elsewhere, 999)
    assert table.swept() == set()
    assert elsewhere.exists()


def test_no_retention_deletes_all_that_the_newest_version_does_not_need(table: Handmade) -> None:
    old, new = table.file("old.parquet", 0), table.file("new.parquet", 0)
    table.commit([old.add()])
    table.commit([table.removed(old, 0.001), new.add()])
    assert table.swept(0.0) == {"old.parquet"}


def test_a_file_that_was_committed_since_the_plan_stays(table: Handmade) -> None:
    file = table.file("a.parquet", 99)
    plan = plan_sweep(table.log, KEEP_S, NOW_S)
    assert plan is not None
    table.commit([file.add()])
    assert sweep(table.log, plan, KEEP_S, NOW_S, no_probe) == 0
    assert "a.parquet" in table.here()


def test_what_a_checkpoint_has_forgotten_is_still_kept(table: Handmade) -> None:
    """delta-rs drops removes that are older than a week from its checkpoints; the retention here is two."""
    file = table.file("a.parquet", 999)
    table.commit([file.add()], age_h=999)
    table.commit([table.removed(file, 200)], age_h=200)
    checkpoint(table.log)
    assert "a.parquet" in needed(table.log, 336 * HOUR_S, NOW_S)
    assert table.swept(336 * HOUR_S) == set()
    assert table.swept(199 * HOUR_S) == {"a.parquet"}


def table_vectors(table: Handmade, file: AddFile) -> set[str]:
    from ordertrail.delta.vectors import vector_file

    assert file.deletion_vector is not None
    path = vector_file(table.root, json.loads(file.deletion_vector))
    assert path is not None
    return {str(path.relative_to(table.root))}


# --- the log -----------------------------------------------------------------------------------------------------


def aged(table: Handmade, commits: int, checkpoints: Sequence[int], age_h: float = 100.0) -> None:
    """A log of commits, all as old, with checkpoints at some versions."""
    for _ in range(commits):
        file = table.file(f"f{table.version + 1}.parquet", 0)
        table.commit([file.add()])
        if table.version in checkpoints:
            assert checkpoint(table.log) is None
    for path in table.log.folder.iterdir():
        age(path, age_h)


def cleaned(table: Handmade, keep_from: int = 99, keep_s: float = KEEP_S) -> list[str]:
    """Names that a clean-up takes away."""
    plan = plan_clean_up(table.log, keep_from, keep_s, NOW_S)
    if plan is None:
        return []
    assert clean_up(table.log, plan, no_probe) == len(plan.names)
    return list(plan.names)


def json_versions(table: Handmade) -> list[int]:
    return table.log.entries()[0]


def test_the_log_below_a_checkpoint_goes(table: Handmade) -> None:
    aged(table, 9, (3, 6))
    before = read_snapshot(table.log)
    table.log.folder.joinpath(f"{2:020d}.crc").write_text("{}")
    table.log.folder.joinpath(f".{2:020d}.json.crc").write_text("")
    for path in table.log.folder.iterdir():
        age(path, 100)
    gone = cleaned(table)
    assert json_versions(table) == [6, 7, 8, 9]
    assert sorted(table.log.entries()[1]) == [6]
    assert {f"{2:020d}.crc", f".{2:020d}.json.crc", f"{3:020d}.checkpoint.parquet"} <= {*gone}
    assert read_snapshot(table.log) == before
    assert read_snapshot(table.log, 7).version == 7


def test_what_must_stay_readable_does(table: Handmade) -> None:
    aged(table, 9, (3, 6))
    cleaned(table, keep_from=5)
    assert json_versions(table) == [3, 4, 5, 6, 7, 8, 9]
    assert len(read_snapshot(table.log, 5).files) == 5


def test_young_entries_stay_and_so_does_what_they_need(table: Handmade) -> None:
    aged(table, 9, (3, 6))
    age(table.entry(5), 9)
    cleaned(table)
    assert json_versions(table) == [3, 4, 5, 6, 7, 8, 9]


def test_without_a_checkpoint_nothing_goes(table: Handmade) -> None:
    aged(table, 9, ())
    assert cleaned(table) == []


def test_the_checkpoint_that_readers_begin_with_stays(table: Handmade) -> None:
    aged(table, 9, (3, 6))
    (table.log.folder / "_last_checkpoint").write_text('{"version": 3, "size": 1}')
    cleaned(table)
    assert sorted(table.log.entries()[1]) == [3, 6]


def test_a_checkpoint_that_lies_takes_nothing_away(table: Handmade) -> None:
    aged(table, 9, (3, 6))
    name = "{:020d}.checkpoint.parquet"
    (table.log.folder / name.format(6)).write_bytes((table.log.folder / name.format(3)).read_bytes())
    plan = plan_clean_up(table.log, 99, 0.0, NOW_S)
    assert plan is not None
    before = table.here()
    with pytest.raises(TableError, match="does not say what the log says"):
        clean_up(table.log, plan, no_probe)
    assert table.here() == before


def test_a_log_with_a_hole_is_not_cleaned_up(table: Handmade) -> None:
    """Until there is a checkpoint that can be proved from the one before it."""
    aged(table, 9, (3, 6, 9))
    table.entry(4).unlink()
    with pytest.raises(TableError, match="lacks version 4"):
        prove(table.log, 6)
    assert cleaned(table)
    assert json_versions(table) == [9]


@pytest.mark.parametrize("gone", range(1, 7))
def test_a_clean_up_that_was_cut_short_is_finished(table: Handmade, gone: int) -> None:
    aged(table, 9, (3, 6))
    before = read_snapshot(table.log)
    plan = plan_clean_up(table.log, 99, KEEP_S, NOW_S)
    assert plan is not None
    for name in plan.names[:gone]:
        (table.log.folder / name).unlink()
    assert read_snapshot(table.log) == before
    assert cleaned(table) == list(plan.names[gone:])
    assert json_versions(table) == [6, 7, 8, 9]
    assert read_snapshot(table.log) == before


def test_temporary_files_of_writers_that_died_go(table: Handmade) -> None:
    old = table.log.folder / f".{7:020d}.json.{uuid.uuid4().hex}.tmp"
    young = table.log.folder / f".{8:020d}.json.{uuid.uuid4().hex}.tmp"
    for path, age_h in ((old, 2), (young, 0.5)):
        path.write_text("{}")
        age(path, age_h)
    assert cleaned(table) == [old.name]


def test_commits_behind_the_last_checkpoint(table: Handmade) -> None:
    assert commits_behind(table.log) == 1
    aged(table, 9, (6,))
    assert commits_behind(table.log) == 3


# --- debt --------------------------------------------------------------------------------------------------------

MB = 1 << 20
LIMITS = Maintenance(max_small_files=3, max_deleted_share=0.2, file_size_bytes=40 * MB)


def holding(tmp_path: Path, *files: tuple[float, int, int]) -> Snapshot:
    """A snapshot with files of (MB, rows, deleted rows); their paths are their places."""
    table = Handmade(tmp_path / uuid.uuid4().hex).begin()
    empty = read_snapshot(table.log)
    made = {}
    for place, (size_mb, rows, deleted) in enumerate(files):
        vector = json.dumps({"cardinality": deleted}) if deleted else None
        made[str(place)] = AddFile(str(place), int(size_mb * MB), 0, json.dumps({"numRecords": rows}), vector)
    return Snapshot(empty.root, 1, made, {}, empty.metadata, empty.protocol)


def chosen(snapshot: Snapshot, limits: Maintenance = LIMITS) -> list[tuple[str, ...]]:
    return [one.files for one in compactions(snapshot, limits)]


def test_few_small_files_are_left_alone(tmp_path: Path) -> None:
    snapshot = holding(tmp_path, (1, 10, 0), (1, 10, 0), (1, 10, 0), (30, 300, 0))
    assert chosen(snapshot) == []
    assert debt_of(snapshot, LIMITS).small_files == 3
    assert reasons(snapshot, LIMITS, behind=3) == ()
    assert reasons(snapshot, LIMITS, behind=30) == (f"{snapshot.root.name}: 30 commits since the last checkpoint",)


def test_many_small_files_become_one_and_a_much_larger_one_waits(tmp_path: Path) -> None:
    snapshot = holding(tmp_path, (8, 80, 0), (1, 10, 0), (1, 10, 0), (1, 10, 0), (30, 300, 0))
    assert chosen(snapshot) == [("1", "2", "3")]
    assert reasons(snapshot, LIMITS, 0) == (f"{snapshot.root.name}: 3 small files",)


def test_no_compacted_file_is_larger_than_files_are_to_be(tmp_path: Path) -> None:
    snapshot = holding(tmp_path, *[(9, 90, 0)] * 9)
    assert [len(files) for files in chosen(snapshot)] == [4, 4]


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ([(30, 100, 21), (30, 100, 20)], [("0",)]),
        ([(30, 1_000_000, 0), (5, 100_000, 90_000)], []),
        ([(30, 100_000, 0), (5, 100_000, 90_000)], [("1",)]),
        ([(1, 10_000, 10_000)], [("0",)]),
        ([(1, 10_000, 9_999)], []),
    ],
    ids=["a large one", "a small part", "a large part", "nothing is left", "too few to notice"],
)
def test_files_with_many_deleted_rows(
    tmp_path: Path, files: list[tuple[float, int, int]], wanted: list[tuple[str, ...]]
) -> None:
    assert chosen(holding(tmp_path, *files)) == wanted


def test_a_row_is_written_again_a_logarithm_of_times(tmp_path: Path) -> None:
    """A thousand batches of one size with maintenance after each: few files, and little written."""
    files: list[float] = []
    written = 0.0
    empty = holding(tmp_path)
    limits = Maintenance(max_small_files=10, file_size_bytes=10_000 * MB)
    for _ in range(1000):
        files.append(1.0)
        made = {str(i): AddFile(str(i), int(size * MB), 0, '{"numRecords": 1}') for i, size in enumerate(files)}
        for one in compactions(replace(empty, files=made), limits):
            taken = {int(path) for path in one.files}
            written += sum(files[place] for place in taken)
            files = [size for place, size in enumerate(files) if place not in taken]
            files.append(one.size_bytes / MB)
    assert len(files) <= 11
    assert written <= 1000 * 10


# --- positions ---------------------------------------------------------------------------------------------------


@given(rows=st.integers(1, 40), data=st.data())
def test_rows_that_were_deleted_since_are_found_in_the_new_file(rows: int, data: st.DataObject) -> None:
    every = list(range(rows))
    before = sorted(data.draw(st.sets(st.sampled_from(every))))
    now = sorted({*before, *data.draw(st.sets(st.sampled_from(every)))})
    start = data.draw(st.integers(0, 5))
    written = [None] * start + [row for row in every if row not in before]
    wanted = [written.index(row) for row in now if row not in before]
    found = moved(np.array(before, dtype=np.int64), np.array(now, dtype=np.int64), start)
    assert found is not None
    assert found.tolist() == wanted


def test_a_row_that_came_back_cannot_be_translated() -> None:
    assert moved(np.array([1, 2]), np.array([1, 3]), 0) is None
