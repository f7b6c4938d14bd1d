"""Tables that are lost or damaged, one by one: a pass says so each time and makes nothing anew; the cures work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from ordertrail.delta import table as delta_table
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.log_cleanup import CleanUp, clean_up
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.errors import OrdertrailError, TableError
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.plan import plan_files
from ordertrail.look.status import Reader
from ordertrail.look.verify import verify
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House, bag, check_books, check_readers, copied, open_house, without_fsync

EARLY, LATE, LATER = "2026-11-20 08:00:00", "2026-11-21 08:00:00", "2026-11-22 08:00:00"
TABLES = ("stage", "target", "history", "rejects", "deliveries")

Act = Callable[[House], None]


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    with without_fsync():
        yield


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Three batches, with updates and a reject in each. Only to copy."""
    made = open_house(tmp_path_factory.mktemp("life"), max_reject_share=0.6)
    send(made, 20, cells("A", EARLY), cells("B", EARLY), cells("C", "yesterday"))
    send(made, 21, cells("A", LATE, "DELIVERED"), cells("D", LATE), cells("C", "yesterday"))
    send(made, 22, cells("A", LATER, "RETURNED"), cells("E", LATER), cells("C", "yesterday"))
    return made


@pytest.fixture
def house(life: House, tmp_path: Path) -> House:
    """The same, to damage."""
    return copied(life, tmp_path / "house")


def send(house: House, day: int, *rows: tuple[str, ...]) -> None:
    house.drop(dated(day), csv_bytes(rows))
    house.run()


def entry(house: House, table: str, version: int | None = None) -> Path:
    """A log entry, by default the last one."""
    log = house.table_path(table) / "_delta_log"
    return log / f"{house.version(table) if version is None else version:020d}.json"


def contents(house: House) -> dict[str, int]:
    root = house.config.warehouse
    return {str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file()}


def refused(house: House) -> TableError:
    """A pass and all that looks before one ends in the same error, and nothing is written."""
    house.drop(dated(23), csv_bytes([cells("A", "2026-11-23 08:00:00"), cells("F", LATER)]))
    before = contents(house)
    with pytest.raises(TableError) as caught:
        house.run()
    with pytest.raises(TableError):
        house.run()
    assert contents(house) == before
    assert house.left() == [dated(23)]
    assert type(caught.value) is TableError
    return caught.value


def goes_on(house: House, like: House) -> None:
    """After the cure, the next batch ends as in a house that nothing happened to."""
    if house.left() != [dated(23)]:
        house.drop(dated(23), csv_bytes([cells("A", "2026-11-23 08:00:00"), cells("F", LATER)]))
    assert house.run().warnings == ()
    send(like, 23, cells("A", "2026-11-23 08:00:00"), cells("F", LATER))
    assert house.target() == like.target()
    check_books(house)
    assert verify(house.config).ok


# -- a table is lost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_is_gone_is_not_made_again(house: House, table: str) -> None:
    shutil.rmtree(house.table_path(table))
    error = refused(house)
    assert f"orders_{table} is not there" in error.message
    assert error.hint
    assert not house.table_path(table).exists()


@pytest.mark.parametrize("table", TABLES)
def test_status_and_plan_say_so_too_and_do_not_advise_a_pass(house: House, table: str) -> None:
    shutil.rmtree(house.table_path(table))
    file = house.drop(dated(23), csv_bytes([cells("A", LATER)]))
    looks: list[Callable[[], object]] = [lambda: Reader(house.config), lambda: plan_files(house.config, [file])]
    for look in looks:
        with pytest.raises(TableError) as caught:
            look()
        assert f"orders_{table} is not there" in caught.value.message
        assert "run a pass" not in caught.value.hint


@pytest.mark.parametrize("table", ["target", "history", "rejects"])
def test_a_table_from_an_older_backup_is_refused(house: House, life: House, tmp_path: Path, table: str) -> None:
    old = copied(life, tmp_path / "old")
    for version in (3, 2):
        entry(old, table, version).unlink()
    shutil.rmtree(house.table_path(table))
    shutil.copytree(old.table_path(table), house.table_path(table))
    error = refused(house)
    assert f"orders_{table} stands at batch 1, but batch 3 is done" in error.message


@pytest.mark.parametrize("table", ["stage", "target", "history", "rejects"])
def test_a_last_log_entry_that_is_deleted_is_seen(house: House, table: str) -> None:
    entry(house, table).unlink()
    assert f"orders_{table} stands at batch 2" in refused(house).message


def test_status_tells_of_a_table_that_is_behind(house: House) -> None:
    entry(house, "history").unlink()
    with Reader(house.config) as reader:
        (warning,) = reader.status().warnings
    assert "orders_history stands at batch 2, but batch 3 is done" in warning
    assert "ordertrail rebuild --history-from-archive" in warning


def test_deliveries_whose_last_batch_is_gone_are_recorded_again_from_the_stage(house: House, life: House) -> None:
    """Which is what a kill before the done mark leaves."""
    whole = bag(house.rows("deliveries"))
    entry(house, "deliveries").unlink()
    entry(house, "deliveries").unlink()
    house.run()
    assert bag(house.rows("deliveries")) == whole
    assert life.target() == house.target()


def test_tables_that_were_never_all_made_are_made(tmp_path: Path) -> None:
    """A first pass that was killed while it made them."""
    house = open_house(tmp_path)
    house.run()
    for table in ("rejects", "deliveries"):
        shutil.rmtree(house.table_path(table))
    send(house, 20, cells("A", EARLY))
    assert len(house.target()) == 1


# -- a log is damaged -----------------------------------------------------------------------------------------------


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_at_a_line_end(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def cut_to_one_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("damage", [emptied, cut_at_a_line_end, cut_to_one_line])
def test_an_entry_that_lost_its_actions_is_damage(house: House, table: str, damage: Callable[[Path], None]) -> None:
    path = entry(house, table)
    damage(path)
    error = refused(house)
    assert str(path) in error.message
    assert error.hint


def test_the_first_entry_counts_its_actions_as_well(house: House) -> None:
    cut_at_a_line_end(entry(house, "target", 0))
    assert "it has 2 of 3 actions" in refused(house).message


# -- rows and files that are not there ------------------------------------------------------------------------------


def forget_a_file(house: House, table: str) -> None:
    """The last entry that adds one is written again without it, as whole as before."""
    path = entry(house, table)
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    actions.remove(next(action for action in actions if "add" in action and "deletionVector" not in action["add"]))
    info = actions[0]["commitInfo"]
    said = json.loads(info["userMetadata"])
    said["ordertrail"]["actions"] = len(actions)
    info["userMetadata"] = json.dumps(said)
    path.write_text("".join(json.dumps(action) + "\n" for action in actions))


@pytest.mark.parametrize(("table", "cure"), [("target", "ordertrail rebuild"), ("history", "--history-from-archive")])
def test_rows_that_are_lost_are_told_until_it_is_mended(house: House, table: str, cure: str) -> None:
    forget_a_file(house, table)
    for day in (23, 24, 25):
        house.drop(dated(day), csv_bytes([cells("A", f"2026-11-{day} 08:00:00"), cells(f"N{day}", LATER)]))
        warnings = house.run().warnings
        assert any(f"orders_{table} has" in text and cure in text for text in warnings), warnings
    assert any(f"orders_{table} has" in text for text in house.run().warnings)


@pytest.mark.parametrize("table", ["target", "history", "rejects"])
def test_a_data_file_that_is_gone_is_told_until_it_is_back(house: House, table: str) -> None:
    name = Path(DeltaTable(house.table_path(table)).file_uris()[0]).name
    path = house.table_path(table) / name
    path.rename(house.config.archive / "aside")
    for _ in range(2):
        (warning,) = house.run().warnings
        assert f"orders_{table} lacks its data file {name}" in warning
    (house.config.archive / "aside").rename(path)
    assert house.run().warnings == ()


def test_a_vector_that_is_gone_is_told_until_the_target_is_rebuilt(house: House) -> None:
    shutil.rmtree(house.table_path("target") / "_dv")
    (warning,) = house.run().warnings
    assert "orders_target lacks" in warning
    assert "deletion vector file" in warning
    rebuild(house.config)
    assert house.run().warnings == ()


def test_a_pass_that_needs_a_file_that_is_gone_names_it_the_table_and_the_cure(house: House, tmp_path: Path) -> None:
    """And does not call it a fault that goes away: it is terminal."""
    for name in ("_dv", ".ordertrail-index"):
        shutil.rmtree(house.table_path("target") / name, ignore_errors=True)
        shutil.rmtree(house.config.warehouse / name, ignore_errors=True)
    for path in list(house.table_path("target").glob("*.parquet")):
        path.unlink()
    house.drop(dated(23), csv_bytes([cells("A", "2026-11-23 08:00:00")]))
    with pytest.raises(TableError) as caught:
        house.run()
    assert "of orders_target is not there" in caught.value.message or "deletion vector" in caught.value.message
    assert caught.value.hint == "ordertrail rebuild writes it anew from the history"
    assert not caught.value.transient
    rebuild(house.config)
    assert house.run().batch == 4
    assert verify(house.config).ok


def test_a_stage_that_lost_its_file_is_loaded_again_from_the_source_as_the_error_says(
    house: House, life: House, tmp_path: Path
) -> None:
    house.drop(dated(23), csv_bytes([cells("A", "2026-11-23 08:00:00"), cells("F", LATER)]))

    class Killed(BaseException):
        pass

    def kill(name: str) -> None:
        if name == "stage.committed":
            raise Killed

    with pytest.raises(Killed):
        house.run(kill)
    for path in house.table_path("stage").glob("b000004-rows*.parquet"):
        path.unlink()
    with pytest.raises(TableError) as caught:
        house.run()
    assert "orders_stage is not there" in caught.value.message
    assert "move the table's folder away, then run ordertrail rebuild" in caught.value.hint
    house.table_path("stage").rename(tmp_path / "aside")
    rebuild(house.config)
    goes_on(house, copied(life, tmp_path / "like"))


@pytest.mark.parametrize("act", ["gone", "spoilt"])
def test_a_damaged_vector_is_cured_as_its_error_says(house: House, life: House, tmp_path: Path, act: str) -> None:
    for path in (house.table_path("target") / "_dv").iterdir():
        path.unlink() if act == "gone" else path.write_bytes(path.read_bytes()[:-6] + b"rotten")
    shutil.rmtree(house.config.warehouse / ".ordertrail-index")
    house.drop(dated(23), csv_bytes([cells("A", "2026-11-23 08:00:00"), cells("F", LATER)]))
    with pytest.raises(TableError, match="deletion vector") as caught:
        house.run()
    assert "ordertrail rebuild" in caught.value.hint
    rebuild(house.config)
    goes_on(house, copied(life, tmp_path / "like"))


def test_commits_of_others_are_no_damage(house: House) -> None:
    target = DeltaTable(house.table_path("target"))
    target.delete("tracking_num = 'B'")
    target.update(updates={"address": "'elsewhere'"}, predicate="tracking_num = 'A'")
    target.optimize.compact()
    assert house.run().warnings == ()
    send(house, 23, cells("A", "2026-11-23 08:00:00"), cells("F", LATER))
    assert house.run().warnings == ()


def test_a_foreign_reset_is_told_until_the_target_is_rebuilt(house: House) -> None:
    """Batches that are committed on top do not silence it."""
    DeltaTable(house.table_path("target")).restore(1)
    for day in (23, 24):
        house.drop(dated(day), csv_bytes([cells(f"N{day}", LATER)]))
        (warning,) = house.run().warnings
        assert "version 4 of orders_target is a foreign RESTORE" in warning
    rebuild(house.config)
    assert house.run().warnings == ()


def test_what_commits_say_is_what_is_there(house: House) -> None:
    """Counted from commit to commit, and equal to what the log has, in every table."""
    DeltaTable(house.table_path("target")).optimize.compact()
    send(house, 23, cells("A", "2026-11-23 08:00:00"))
    for table in TABLES:
        snapshot = read_snapshot(DeltaLog(house.table_path(table)))
        assert snapshot.said["rows"] == snapshot.live_rows, table
        assert snapshot.said["files"] == len(snapshot.files), table


# -- checkpoints ----------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_passed_over_and_named_until_it_is_deleted(house: House) -> None:
    DeltaTable(house.table_path("target")).create_checkpoint()
    path = house.table_path("target") / "_delta_log" / f"{3:020d}.checkpoint.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    for day in (23, 24):
        house.drop(dated(day), csv_bytes([cells("A", f"2026-11-{day} 08:00:00")]))
        (warning,) = house.run().warnings
        assert str(path) in warning
        assert "delete it, and _last_checkpoint beside it" in warning
    with Reader(house.config) as reader:
        assert any(str(path) in text for text in reader.status().warnings)
    wrong = [check for check in verify(house.config).checks if not check.ok]
    assert str(path) in wrong[0].detail
    assert all("delete" in check.hint for check in wrong)
    path.unlink()
    path.with_name("_last_checkpoint").unlink()
    assert house.run().warnings == ()
    assert verify(house.config).ok
    check_readers(house)


def test_a_checkpoint_is_durable_before_entries_are_cleaned_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DeltaLog(house.table_path("target"))
    DeltaTable(log.root).create_checkpoint()
    acts: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        acts.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    monkeypatch.setattr("os.fsync", noted)
    clean_up(log, CleanUp("orders_target", 3, (f"{0:020d}.json",)), lambda _: acts.append("gone"))
    synced = [f"{3:020d}.checkpoint.parquet", "_last_checkpoint", "_delta_log"]
    assert acts == [*synced, "gone", "gone"]


def test_a_pass_makes_the_checkpoint_that_it_writes_durable(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("os.fsync", lambda at: synced.append(Path(os.readlink(f"/proc/self/fd/{at}")).name))
    monkeypatch.setattr(delta_table, "CHECKPOINT_EVERY", 1)
    send(house, 23, cells("A", "2026-11-23 08:00:00"))
    assert synced.count(f"{4:020d}.checkpoint.parquet") == 4
    assert synced.count("_last_checkpoint") == 6


# -- every cure that an error names, works --------------------------------------------------------------------------


@pytest.mark.series
@pytest.mark.parametrize("damage", ["gone", "behind", "emptied", "cut"])
def test_the_target_is_cured_as_the_error_says(house: House, life: House, tmp_path: Path, damage: str) -> None:
    if damage == "gone":
        shutil.rmtree(house.table_path("target"))
    elif damage == "behind":
        entry(house, "target").unlink()
    else:
        {"emptied": emptied, "cut": cut_at_a_line_end}[damage](entry(house, "target"))
    error = refused(house)
    if "move the folder" in error.hint:
        house.table_path("target").rename(tmp_path / "aside")
    assert "ordertrail rebuild" in error.hint
    rebuild(house.config)
    goes_on(house, copied(life, tmp_path / "like"))


@pytest.mark.series
@pytest.mark.parametrize("damage", ["gone", "behind", "emptied"])
def test_the_stage_is_made_again_by_a_rebuild(house: House, life: House, tmp_path: Path, damage: str) -> None:
    if damage == "gone":
        shutil.rmtree(house.table_path("stage"))
    elif damage == "behind":
        entry(house, "stage").unlink()
    else:
        emptied(entry(house, "stage"))
    error = refused(house)
    assert "ordertrail rebuild" in error.hint
    if "move the folder" in error.hint:
        house.table_path("stage").rename(tmp_path / "aside")
    rebuild(house.config)
    goes_on(house, copied(life, tmp_path / "like"))


def test_a_rebuild_says_what_to_do_about_the_tables_it_needs(house: House) -> None:
    shutil.rmtree(house.table_path("deliveries"))
    with pytest.raises(OrdertrailError) as caught:
        rebuild(house.config)
    assert "restore its folder from a backup" in caught.value.hint
