"""`rebuild`: the target again as undisturbed batches left it, whatever somebody did to it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from msgspec.structs import replace

from ordertrail.cli import cli
from ordertrail.engines.local import anew
from ordertrail.errors import CommitConflictError, ForeignChangeError, OrdertrailError, PassRunningError, TableError
from ordertrail.keep.rebuild import Differences, RebuildReport, rebuild
from ordertrail.lock import pipeline_lock
from ordertrail.look.verify import verify
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House, bag, check_books, check_readers, copied, open_house, without_fsync
from tests.oracle import Row

EARLY, LATE, LATER = "2026-11-20 08:00:00", "2026-11-21 08:00:00", "2026-11-22 08:00:00"
CLOCKS = ("_inserted_at", "_updated_at")
NOTHING = Differences(0, 0, 0, 0)

Damage = Callable[[House], None]


both_writers = pytest.mark.parametrize("house", ["vectors", "copies"], indirect=True)
"""For tests in which it matters how the target was written."""


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    with without_fsync():
        yield


@pytest.fixture(scope="module")
def lives_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], House]:
    """Three batches with every outcome: revisions 1 to 3, rows that came again, older ones. Only to copy."""

    @cache
    def live(writer: str) -> House:
        root = tmp_path_factory.mktemp(writer)
        made = open_house(root, deletion_vectors=writer == "vectors", max_reject_share=0.5)
        send(made, dated(20), cells("A", EARLY), cells("B", EARLY), cells("C", EARLY), cells("A", EARLY))
        news = (cells("A", LATE, "DELIVERED"), cells("C", EARLY, address="Y"), cells("D", LATE))
        send(made, dated(21), *news, cells("B", EARLY))
        send(made, dated(22), cells("A", EARLY, address="old"), cells("A", LATER, "RETURNED"), cells("E", "yesterday"))
        return made

    return live


@pytest.fixture
def house(request: pytest.FixtureRequest, lives_of: Callable[[str], House], tmp_path: Path) -> House:
    """That life, to go on with."""
    return copied(lives_of(getattr(request, "param", "vectors")), tmp_path / "house")


def send(house: House, name: str, *rows: tuple[str, ...]) -> None:
    house.drop(name, csv_bytes(rows))
    house.run()


def target_of(house: House) -> DeltaTable:
    return DeltaTable(house.table_path("target"))


def rows_of(house: House, where: str = "true") -> pa.Table:
    """The target as others read it."""
    found = QueryBuilder().register("t", target_of(house)).execute(f"SELECT * FROM t WHERE {where}")
    return pa.table(found)


def files_of(house: House) -> list[Path]:
    return sorted(house.table_path("target").glob("*.parquet"))


def sound(house: House) -> bool:
    return verify(house.config).ok


# -- equal to what the batches built --------------------------------------------------------------------------------


@both_writers
def test_a_rebuild_of_a_sound_target_changes_nothing(house: House) -> None:
    before, version, files = bag(house.rows("target")), house.version(), files_of(house)
    report = rebuild(house.config)
    assert (bag(house.rows("target")), files_of(house)) == (before, files)
    assert (report.rows, report.written, report.files, report.version, report.batch) == (4, 0, 0, version + 1, 3)
    assert (report.created, report.warnings, report.notes, report.history_rows) == (False, (), (), 10)
    actions = house.actions("target", house.version())
    assert [next(iter(action)) for action in actions] == ["commitInfo", "txn"]
    assert sound(house)
    check_readers(house)


def test_it_is_one_commit_that_carries_the_batch_and_changes_only_what_differs(house: House) -> None:
    update_audit(house)
    report = rebuild(house.config)
    actions = house.actions("target", house.version())
    (info,) = (action["commitInfo"] for action in actions if "commitInfo" in action)
    assert info["operation"] == "REBUILD"
    assert [action["txn"]["version"] for action in actions if "txn" in action] == [3]
    (removed,) = (action["remove"] for action in actions if "remove" in action)
    added = [action["add"] for action in actions if "add" in action]
    assert sum(json.loads(one["stats"])["numRecords"] for one in added if "deletionVector" not in one) == 1
    assert removed["path"] not in {one["path"] for one in added if "deletionVector" not in one}
    assert (report.files, report.written) == (1, 1)


@both_writers
def test_batches_go_on_after_a_rebuild(house: House) -> None:
    rebuild(house.config)
    send(house, dated(23), cells("A", "2026-11-23 08:00:00"), cells("B", EARLY), cells("N", LATE))
    assert house.outcomes()[dated(23), 1] == "updated"
    assert house.outcomes()[dated(23), 2] == "unchanged"
    row = next(row for row in house.rows("target") if row["tracking_num"] == "A")
    assert (row["_revision"], row["_batch"]) == (4, 4)
    assert sound(house)
    check_books(house)
    check_readers(house)


def test_a_pipeline_that_has_loaded_nothing_is_rebuilt_empty(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.run()
    write_deltalake(target_of(house), stranger(house), mode="append")
    report = rebuild(house.config)
    assert (report.rows, report.files, house.rows("target")) == (0, 0, [])


def test_many_rows_become_files_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = open_house(tmp_path)
    send(house, dated(20), *(cells(f"{number:06d}", EARLY, address=os.urandom(16).hex()) for number in range(20_000)))
    before = bag(house.rows("target"))
    delete_all(house)
    monkeypatch.setattr(anew, "FILE_SIZE_BYTES", 1_000)
    monkeypatch.setattr(anew, "PARQUET", f"{anew.PARQUET}, ROW_GROUP_SIZE 2048")
    report = rebuild(house.config)
    assert report.files > 1
    assert bag(house.rows("target")) == before
    assert sound(house)


# -- the cure for damage --------------------------------------------------------------------------------------------


def delete(house: House) -> None:
    target_of(house).delete("tracking_num = 'A'")


def delete_all(house: House) -> None:
    target_of(house).delete()


def update(house: House) -> None:
    later = "'2027-01-01 00:00:00'"
    target_of(house).update(updates={"address": "'foreign'", "last_update_timestamp": f"to_timestamp({later})"})


def update_audit(house: House) -> None:
    target_of(house).update(updates={"_revision": "99", "_file_row": "NULL"}, predicate="tracking_num = 'B'")


def overwrite(house: House) -> None:
    found = rows_of(house, "tracking_num = 'B'")
    write_deltalake(target_of(house), found, mode="overwrite")


def restore(house: House) -> None:
    target_of(house).restore(1)


def double(house: House) -> None:
    found = rows_of(house, "tracking_num IN ('A', 'B')")
    write_deltalake(target_of(house), found, mode="append")


def add_a_stranger(house: House) -> None:
    write_deltalake(target_of(house), stranger(house), mode="append")


def stranger(house: House) -> pa.Table:
    """A row of a key that no vendor sent."""
    when = datetime(2026, 11, 20, tzinfo=UTC)
    given = {"tracking_num": "stranger", "last_update_timestamp": when}
    return pa.Table.from_pylist([given], schema=rows_of(house).schema)


def lose_the_files(house: House) -> None:
    for path in files_of(house):
        path.unlink()


def cut_a_file(house: House) -> None:
    path = files_of(house)[-1]
    path.write_bytes(path.read_bytes()[:-9])


def lose_the_vectors(house: House) -> None:
    shutil.rmtree(house.table_path("target") / "_dv", ignore_errors=True)


def lose_the_folder(house: House) -> None:
    shutil.rmtree(house.table_path("target"))


def lose_the_log(house: House) -> None:
    shutil.rmtree(house.table_path("target") / "_delta_log")


DAMAGE: tuple[Damage, ...] = (
    delete, delete_all, update, update_audit, overwrite, restore, double, add_a_stranger, lose_the_files, cut_a_file,
    lose_the_vectors, lose_the_folder, lose_the_log,
)  # fmt: skip


@pytest.mark.series
@both_writers
@pytest.mark.parametrize("damage", DAMAGE)
def test_it_cures_what_somebody_did_to_the_target(house: House, damage: Damage) -> None:
    undisturbed = bag(house.rows("target"))
    damage(house)
    report = rebuild(house.config)
    assert bag(house.rows("target")) == undisturbed
    assert report.created == (damage in (lose_the_folder, lose_the_log))
    assert sound(house)
    assert house.run().warnings == (), "a pass warns of what is cured"
    send(house, dated(23), cells("A", "2026-11-23 08:00:00"))
    assert sound(house)
    check_books(house)
    check_readers(house)


@pytest.mark.parametrize("damage", [overwrite, restore])
def test_a_pass_that_notices_the_damage_offers_it(house: House, damage: Damage) -> None:
    damage(house)
    (warning,) = house.run().warnings
    assert "ordertrail rebuild" in warning
    rebuild(house.config)
    assert house.run().warnings == ()


@pytest.mark.series
@pytest.mark.parametrize("damage", [delete, delete_all, update, update_audit, overwrite, restore, double])
def test_it_cures_also_what_the_batches_after_the_damage_made_of_it(
    tmp_path: Path, house: House, damage: Damage
) -> None:
    """Batches took the damaged target as it was; the rebuilt one is as if it had been sound all the time."""
    twin = copied(house, tmp_path / "twin")
    damage(house)
    for each in (house, twin):
        again = (cells("B", EARLY), cells("D", LATE), cells("A", LATER, "RETURNED"))
        send(each, dated(23), *again, cells("C", LATER, "DELIVERED"))
        send(each, dated(19), cells("A", LATE), cells("N", EARLY))
    rebuild(house.config)
    assert without_clocks(house) == without_clocks(twin)


def without_clocks(house: House) -> list[str]:
    """The target's rows, with the batches instead of their clocks."""
    batches = {row["staged_at"]: row["batch"] for row in house.rows("deliveries")}
    rows: list[Row] = house.rows("target")
    return sorted(str({k: batches[v] if k in CLOCKS else v for k, v in row.items()}) for row in rows)


@both_writers
def test_the_made_table_is_as_the_engine_makes_it(house: House) -> None:
    made = dict(target_of(house).metadata().configuration)
    protocol = target_of(house).protocol()
    lose_the_folder(house)
    rebuild(house.config)
    assert target_of(house).metadata().configuration == made
    assert target_of(house).protocol() == protocol


def test_after_a_change_of_the_contract_the_target_follows_it(tmp_path: Path) -> None:
    """The rank decides a tie; with the ranks turned round the other row wins, and so does its origin."""
    house = open_house(tmp_path)
    send(house, dated(20), cells("A", EARLY, "DELIVERED"), cells("A", EARLY, "PICKED_UP"))
    turned = replace(house.config.contract, status_rank=("DELIVERED", "PICKED_UP"))
    house.config = replace(house.config, contract=turned)
    found = rebuild(house.config, dry_run=True).differences
    assert found == Differences(missing=0, extra=0, different=1, audit=0)
    rebuild(house.config)
    (row,) = house.rows("target")
    assert (row["status"], row["_file_row"], row["_revision"]) == ("PICKED_UP", 2, 1)
    assert sound(house)


# -- a batch that is under way --------------------------------------------------------------------------------------


class Killed(BaseException):
    """The pass ends here, as if killed."""


def run_until(house: House, step: str) -> None:
    """A pass that is killed at a step."""

    def kill(name: str) -> None:
        if name == step:
            raise Killed

    with pytest.raises(Killed):
        house.run(kill)


@pytest.mark.series
@pytest.mark.parametrize("damage", [lose_the_files, restore])
@pytest.mark.parametrize("step", ["stage.committed", "load.committed", "history.committed", "rejects.committed"])
def test_a_batch_under_way_is_loaded_again_after_it(tmp_path: Path, house: House, step: str, damage: Damage) -> None:
    """Also when the target had it already: what is recorded counts, and the next pass takes the rest from the stage."""
    twin = copied(house, tmp_path / "twin")
    rows = (cells("A", "2026-11-23 08:00:00"), cells("B", EARLY), cells("N", LATE), cells("C", EARLY, address="Z"))
    twin.drop(dated(23), csv_bytes(rows))
    twin.run()
    house.drop(dated(23), csv_bytes(rows))
    run_until(house, step)
    damage(house)
    report = rebuild(house.config)
    assert (report.batch, len(report.notes)) == (3, 1)
    assert not any(row["_batch"] == 4 for row in house.rows("target"))
    assert sound(house)
    again = house.run()
    assert (again.recovered, again.batch, again.warnings) == (True, 4, ())
    assert without_clocks(house) == without_clocks(twin)
    assert house.outcomes() == twin.outcomes()
    assert sound(house)
    check_books(house)


def test_what_the_history_says_of_a_batch_stands(tmp_path: Path) -> None:
    """Killed between the records of a batch that met a damaged target: its counts stay those of its history."""
    house = open_house(tmp_path)
    send(house, dated(20), cells("001", EARLY))
    target_of(house).delete("tracking_num = '001'")
    house.drop(dated(21), csv_bytes([cells("001", LATE, "DELIVERED")]))
    run_until(house, "history.committed")
    assert rebuild(house.config).rows == 1
    report = house.run()
    assert (report.batch, report.recovered, report.rows.inserted, report.rows.updated) == (2, True, 1, 0)
    (row,) = house.rows("target")
    assert (row["status"], row["_batch"]) == ("DELIVERED", 2)
    checked = verify(house.config)
    assert checked.ok, [check for check in checked.checks if not check.ok]


# -- what it refuses ------------------------------------------------------------------------------------------------


def lose_history(house: House) -> None:
    DeltaTable(house.table_path("history")).delete("_outcome = 'unchanged'")


def lose_a_history_file(house: House) -> None:
    next(house.table_path("history").glob("*.parquet")).unlink()


def lose_the_history(house: House) -> None:
    shutil.rmtree(house.table_path("history"))


def restore_history(house: House) -> None:
    DeltaTable(house.table_path("history")).restore(1)


def lose_a_delivery(house: House) -> None:
    DeltaTable(house.table_path("deliveries")).delete(f"file_name = '{dated(21)}'")


@pytest.mark.series
@pytest.mark.parametrize(
    "damage", [lose_history, lose_a_history_file, lose_the_history, restore_history, lose_a_delivery]
)
def test_a_history_that_is_not_whole_is_never_folded(house: House, damage: Damage) -> None:
    """Else the rebuild would lose rows that the target still has."""
    damage(house)
    before, version = bag(house.rows("target")), house.version()
    with pytest.raises(TableError) as caught:
        rebuild(house.config)
    assert caught.value.hint
    assert (bag(house.rows("target")), house.version()) == (before, version)


def cut_the_log(house: House) -> None:
    (house.table_path("target") / "_delta_log" / f"{1:020d}.json").unlink()


def spoil_the_log(house: House) -> None:
    (house.table_path("target") / "_delta_log" / f"{1:020d}.json").write_bytes(b"\xff{")


def replace_the_table(house: House) -> None:
    found = rows_of(house)
    shutil.rmtree(house.table_path("target"))
    write_deltalake(house.table_path("target"), found)


def drop_a_column(house: House) -> None:
    found = rows_of(house).drop_columns(["_revision"])
    write_deltalake(target_of(house), found, mode="overwrite", schema_mode="overwrite")


@pytest.mark.parametrize("damage", [cut_the_log, spoil_the_log, replace_the_table, drop_a_column])
def test_what_it_cannot_write_to_is_moved_away_first(house: House, damage: Damage) -> None:
    """The error says so, and doing what it says helps."""
    undisturbed = bag(house.rows("target"))
    damage(house)
    with pytest.raises(TableError) as caught:
        rebuild(house.config)
    assert f"move the folder {house.table_path('target')} away, then run ordertrail rebuild" in caught.value.hint
    house.table_path("target").rename(house.config.warehouse / "aside")
    assert rebuild(house.config).created
    assert bag(house.rows("target")) == undisturbed
    assert house.run().warnings == ()
    assert sound(house)


def test_a_table_of_another_pipeline_is_left_alone(house: House, tmp_path: Path) -> None:
    other = open_house(tmp_path / "other")
    send(other, dated(20), cells("Z", EARLY))
    lose_the_folder(house)
    shutil.copytree(other.table_path("target"), house.table_path("target"))
    with pytest.raises(ForeignChangeError, match="another pipeline"):
        rebuild(house.config)
    assert [row["tracking_num"] for row in house.rows("target")] == ["Z"]


def test_without_tables_it_says_to_run_a_pass(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no Delta table") as caught:
        rebuild(open_house(tmp_path).config)
    assert "ordertrail run" in caught.value.hint


def test_beside_a_pass_it_does_nothing(house: House) -> None:
    with pipeline_lock(house.config), pytest.raises(PassRunningError):
        rebuild(house.config)


# -- others who write meanwhile -------------------------------------------------------------------------------------


def at(step: str, act: Callable[[], object]) -> Callable[[str], None]:
    done: list[str] = []

    def probe(name: str) -> None:
        if name == step and not done:
            done.append(name)
            act()

    return probe


def test_what_somebody_writes_meanwhile_goes_too(house: House) -> None:
    undisturbed = bag(house.rows("target"))
    rebuild(house.config, probe=at("rebuild.files", lambda: delete(house)))
    assert bag(house.rows("target")) == undisturbed
    assert sound(house)


def test_a_pass_of_another_machine_meanwhile_is_not_undone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere() -> None:
        other = replace(house.config, tables=replace(house.config.tables))
        monkeypatch.setattr("ordertrail.pipeline.pipeline_lock", lambda _, **__: tempfile.TemporaryDirectory())
        house.drop(dated(23), csv_bytes([cells("N", LATE)]))
        House(other).run()

    with pytest.raises(CommitConflictError):
        rebuild(house.config, probe=at("rebuild.files", elsewhere))
    assert "N" in {row["tracking_num"] for row in house.rows("target")}
    assert sound(house)
    assert len(files_of(house)) == len(set(files_of(house)))
    assert rebuild(house.config, dry_run=True).differences == NOTHING


def test_a_full_disk_leaves_the_target_and_no_file(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    delete(house)
    before, files = bag(house.rows("target")), files_of(house)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(anew, "_moved", full)
    with pytest.raises(OrdertrailError, match="No space left"):
        rebuild(house.config)
    assert (bag(house.rows("target")), files_of(house)) == (before, files)
    assert not (house.table_path("target") / "_rebuild").exists()


# -- the dry run and the command ------------------------------------------------------------------------------------


@pytest.mark.series
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (delete, Differences(1, 0, 0, 0)),
        (delete_all, Differences(4, 0, 0, 0)),
        (update, Differences(0, 0, 4, 0)),
        (update_audit, Differences(0, 0, 0, 1)),
        (double, Differences(0, 2, 0, 0)),
        (add_a_stranger, Differences(0, 1, 0, 0)),
        (restore, Differences(1, 0, 2, 0)),
    ],
)
def test_the_dry_run_counts_the_rows_that_differ_and_writes_nothing(
    house: House, damage: Damage, expected: Differences
) -> None:
    damage(house)
    before = {path: path.stat().st_mtime_ns for path in house.table_path("target").rglob("*")}
    report = rebuild(house.config, dry_run=True)
    assert report.differences == expected
    assert (report.dry_run, report.rows, report.files, report.version) == (True, 4, 0, None)
    assert {path: path.stat().st_mtime_ns for path in house.table_path("target").rglob("*")} == before


@pytest.mark.parametrize("damage", [lose_the_files, cut_a_file])
def test_the_dry_run_says_that_the_target_cannot_be_read(house: House, damage: Damage) -> None:
    damage(house)
    report = rebuild(house.config, dry_run=True)
    assert report.differences is None
    assert "cannot be read" in report.warnings[0]


def call(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    base = house.config.source.parent
    settings = "settle_s = 0\nthreads = 1\n"
    folders = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\n'
    (base / "ordertrail.toml").write_text(folders + settings)
    monkeypatch.chdir(base)
    return CliRunner().invoke(cli, ["rebuild", *words])


def test_the_command_in_words_and_as_json(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delete(house)
    dry = call(house, tmp_path, monkeypatch, "--dry-run")
    assert dry.exit_code == 0
    assert "The target differs in 1 row: 1 missing from the target." in dry.stdout
    assert "Nothing was written." in dry.stdout
    found = json.loads(call(house, tmp_path, monkeypatch, "--dry-run", "--json").stdout)
    assert found["differences"] == {"missing": 1, "extra": 0, "different": 0, "audit": 0, "total": 1}
    result = call(house, tmp_path, monkeypatch)
    assert result.exit_code == 0
    assert f"the target is rebuilt as version {house.version()}: 4 rows, 1 of them written" in result.stdout
    report: dict[str, Any] = json.loads(call(house, tmp_path, monkeypatch, "--json").stdout)
    assert list(report) == list(RebuildReport.__struct_fields__)
    assert (report["rows"], report["version"], report["differences"]) == (4, house.version(), None)
    assert "exactly these" in call(house, tmp_path, monkeypatch, "--dry-run").stdout


def test_the_command_exits_with_3_where_a_person_must_look(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_files(house)
    result = call(house, tmp_path, monkeypatch, "--dry-run")
    assert result.exit_code == 3
    assert "look at this: the target cannot be read" in result.stdout
    assert call(house, tmp_path, monkeypatch).exit_code == 0
