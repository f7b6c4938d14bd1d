"""The target's own change data feed: what each kind of commit says in it, and how it is switched on and off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from msgspec.structs import replace

from ordertrail.begin.doctor import examine
from ordertrail.engines.embedded import apply
from ordertrail.errors import UsageError
from ordertrail.keep.backup import backup
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import rebuild
from ordertrail.keep.restore import restore
from ordertrail.look.plan import plan_files
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.mend.migration import migrate
from ordertrail.model import Column, Correction, CorrectionKind
from ordertrail.parse.kernel import PARQUET
from tests.change_feed import by_delta_rs, by_polars, changes_at, check_feed
from tests.feeds import Cells, Layout, cells, csv_bytes, dated
from tests.harness import House, check_readers, open_house, without_fsync

EARLY, LATE, LATER = "2026-11-20 08:00:00", "2026-11-21 08:00:00", "2026-11-22 08:00:00"
INSERT, DELETE, BEFORE, AFTER = "insert", "delete", "update_preimage", "update_postimage"
PAIR, IMAGES = [DELETE, INSERT], [AFTER, BEFORE]

MODES = [("pairs", True), ("images", True), ("pairs", False)]
"""Mode, and whether the target takes vectors; without them both modes are one."""


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    with without_fsync():
        yield


@pytest.fixture(
    params=[
        pytest.param(mode, marks=pytest.mark.series, id=name)
        for mode, name in zip(MODES, ("pairs", "images", "copies"), strict=True)
    ]
)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    """A, B and C of the 20th."""
    mode, vectors = request.param
    made = open_house(tmp_path, f'change_feed = "{mode}"\n', deletion_vectors=vectors)
    send(made, dated(20), cells("A", EARLY), cells("B", EARLY), cells("C", EARLY))
    return made


def send(house: House, name: str, *rows: Cells) -> None:
    house.drop(name, csv_bytes(rows))
    report = house.run()
    assert not report.notes, report.notes


def target_of(house: House) -> DeltaTable:
    return DeltaTable(house.table_path("target"))


def updated(house: House) -> list[str]:
    """What readers find for one updated row."""
    return PAIR if house.config.change_feed == "pairs" and house.config.deletion_vectors else IMAGES


def kinds(house: House, version: int | None = None) -> list[str]:
    """The kinds of changes of a version, the newest if none is given, sorted."""
    at = house.version() if version is None else version
    return sorted(kind for kind, _ in changes_at(house.table_path("target"), at))


def named(house: House) -> list[str]:
    """The files that the newest version's `cdc` actions name."""
    actions = house.actions("target", house.version())
    return [action["cdc"]["path"] for action in actions if "cdc" in action]


def undo(house: House, name: str) -> None:
    correction = Correction(CorrectionKind.UNDO, (str(house.delivery(name)["delivery_id"]),), "a test", "ops")
    correct(house.pipeline(), Wanted(correction))


# -- batches --------------------------------------------------------------------------------------------------------


def test_what_batches_say(house: House) -> None:
    """Inserts, an update, two updates of a row in one file, nothing new, and a delivery taken back."""
    assert (kinds(house), named(house)) == ([INSERT] * 3, [])
    send(house, dated(21), cells("A", LATE), cells("D", LATE))
    assert kinds(house) == sorted([*updated(house), INSERT])
    assert bool(named(house)) == (updated(house) == IMAGES)
    send(house, dated(22), cells("B", LATE, "PICKED_UP"), cells("B", LATER, "DELIVERED"))
    assert kinds(house) == sorted(updated(house))
    send(house, dated(23), cells("B", LATER, "DELIVERED"), cells("C", EARLY))
    assert kinds(house) == []
    undo(house, dated(21))
    assert kinds(house) == sorted([*updated(house), DELETE])
    undo(house, dated(20))
    check_feed(house)
    check_readers(house)
    assert verify(house.config).ok


def test_only_rows_that_go(house: House) -> None:
    undo(house, dated(20))
    assert kinds(house) == [DELETE] * 3
    check_feed(house)


def test_the_images_are_whole_rows(house: House) -> None:
    send(house, dated(21), cells("A", LATE, "DELIVERED", "Y"))
    if updated(house) == PAIR:
        return
    rows = {row["_change_type"]: row for row in by_delta_rs(house.table_path("target"), house.version())}
    assert [(rows[kind]["status"], rows[kind]["address"], rows[kind]["_revision"]) for kind in (BEFORE, AFTER)] == [
        ("IN_TRANSIT", "X", 1),
        ("DELIVERED", "Y", 2),
    ]


def test_columns_of_others_are_in_both_images(house: House) -> None:
    found = pa.table(QueryBuilder().register("t", target_of(house)).execute("SELECT * FROM t"))
    noted = found.append_column("note", pa.array(["seen"] * len(found)))
    write_deltalake(target_of(house), noted, mode="overwrite", schema_mode="overwrite")
    since = house.version()
    house.drop(dated(21), csv_bytes([cells("A", LATE)]))
    house.run()
    rows = by_delta_rs(house.table_path("target"), house.version())
    assert [row["note"] for row in rows] == ["seen", "seen"]
    check_feed(house, since=since + 1)


def test_an_explicit_version_beside_inferable_ones(house: House) -> None:
    """The config may change from pass to pass: each version is wholly the one or the other."""
    for day, mode in ((21, "images"), (22, "pairs"), (23, "images")):
        house.turn(change_feed=mode)
        send(house, dated(day), cells("A", f"2026-11-{day} 09:00:00"), cells(f"N{day}", LATE))
        assert kinds(house) == sorted([*updated(house), INSERT])
    check_feed(house)


def test_files_of_several_row_groups(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """delta-rs 1.6 ends the process on vectors of such files; where changes are named it reads them."""
    for name in ("PARQUET", "SMALL_PARQUET"):
        monkeypatch.setattr(apply, name, f"{PARQUET}, ROW_GROUP_SIZE 2048")
    send(house, dated(21), *(cells(f"{number:06d}", LATE) for number in range(1, 3_001)))
    (file,) = (path for path in house.table_path("target").glob("b000002-*.parquet"))
    assert pq.read_metadata(file).num_row_groups > 1 or not house.config.deletion_vectors
    send(house, dated(22), *(cells(f"{number:06d}", LATER, "DELIVERED") for number in range(1, 3_001, 300)))
    read = by_polars if updated(house) == PAIR else by_delta_rs
    assert sorted(kind for kind, _ in changes_at(house.table_path("target"), house.version(), read)) == sorted(
        updated(house) * 10
    )
    undo(house, dated(22))
    undo(house, dated(21))
    check_feed(house, read)


# -- others, and what we do about them ------------------------------------------------------------------------------


def test_what_others_write_is_in_it_and_a_rebuild_takes_back_just_that(house: House) -> None:
    send(house, dated(21), cells("A", LATE), cells("D", LATE))
    target_of(house).update(updates={"status": "'FOREIGN'"}, predicate="tracking_num = 'B'")
    target_of(house).delete("tracking_num = 'D'")
    rebuild(house.config)
    assert kinds(house) == sorted([*updated(house), INSERT])
    rebuild(house.config)
    assert kinds(house) == []
    check_feed(house)


def test_a_foreign_restore(house: House) -> None:
    """Of files with vectors that come or go whole delta-rs 1.6 reads the wrong rows; the plugin of Polars does not."""
    send(house, dated(21), cells("A", LATE), cells("D", LATE))
    send(house, dated(22), cells("A", LATER), cells("B", LATE))
    target_of(house).restore(2)
    rebuild(house.config)
    assert kinds(house) == sorted(updated(house) * 2)
    check_feed(house, by_polars)


def test_the_last_row_of_a_file_that_has_a_vector(house: House) -> None:
    """Row by row, so that the file has a vector before its last row goes; maintenance then takes it out."""
    send(house, dated(21), cells("A", LATE))
    send(house, dated(22), cells("B", LATE))
    send(house, dated(23), cells("C", LATE))
    found = check_feed(house)
    assert [sorted(kind for kind, _ in changes) for changes in found.values()][2:] == [sorted(updated(house))] * 3
    check_readers(house)
    house.turn(maintenance=replace(house.config.maintenance, max_small_files=2, max_deleted_share=0.1))
    maintain(house.config)
    assert not [path for path in target_of(house).file_uris() if "b000001-" in path]
    check_feed(house)
    assert verify(house.config).ok


def test_rows_that_nobody_can_read_any_more_come_again(house: House) -> None:
    """Readers cannot work out what a damaged file held, so the commit says what it knows."""
    send(house, dated(21), cells("A", LATE), cells("D", LATE))
    max(house.table_path("target").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns).unlink()
    rebuild(house.config)
    assert set(kinds(house)) == {AFTER}
    assert {dict(row)["tracking_num"] for _, row in changes_at(house.table_path("target"), house.version())} >= {
        "A",
        "D",
    }


def test_maintenance_says_nothing_and_keeps_what_readers_need(house: House) -> None:
    for day in range(21, 27):
        send(house, dated(day), cells("A", f"2026-11-{day} 09:00:00"), cells(f"N{day}", LATE))
    eager = replace(house.config.maintenance, max_small_files=2, max_deleted_share=0.1)
    house.turn(maintenance=eager)
    before = house.version()
    maintain(house.config)
    assert all(kinds(house, version) == [] for version in range(before + 1, house.version() + 1))
    check_feed(house)
    assert verify(house.config).ok
    house.turn(maintenance=replace(eager, retention_h=0.0))
    maintain(house.config)
    left = list((house.table_path("target") / "_change_data").glob("*"))
    assert not left, "what is older than the retention goes"
    check_readers(house)
    send(house, dated(28), cells("A", "2026-11-28 09:00:00"))
    assert kinds(house) == sorted(updated(house))


def test_verify_names_a_file_with_changes_that_is_gone(house: House) -> None:
    send(house, dated(21), cells("A", LATE))
    if not named(house):
        return
    (house.table_path("target") / named(house)[-1]).unlink()
    (wrong,) = (check for check in verify(house.config).checks if not check.ok)
    assert named(house)[-1] in wrong.detail
    assert "change data feed" in wrong.hint


def test_a_migration_says_which_values_it_changes(house: House) -> None:
    contract = house.config.contract
    house.drop(dated(21), csv_bytes([cells("A", LATE)], Layout(extra="place")))
    house.run()
    kept = [column for column in contract.columns if column.name != "address"]
    renamed = replace(contract, columns=(*kept, Column("location", "string", was=("address",))))
    house.turn(contract=renamed)
    migrate(house.config, apply=True)
    assert kinds(house) == [], "another name is no change"
    since = house.version()
    house.turn(contract=replace(renamed, columns=(*renamed.columns, Column("place", "string"))))
    migrate(house.config, apply=True)
    assert kinds(house) == sorted(IMAGES), "one cell was filled"
    check_feed(house, since=since + 1)
    assert verify(house.config).ok


def test_a_backup_takes_the_files_of_changes_along(house: House, tmp_path: Path) -> None:
    for day in (21, 22):
        send(house, dated(day), cells("A", f"2026-11-{day} 09:00:00"))
    house.turn(maintenance=replace(house.config.maintenance, max_small_files=2, max_deleted_share=0.1))
    maintain(house.config)
    backup(house.config, tmp_path / "kept")
    restore(house.config, tmp_path / "kept", force=True)
    assert verify(house.config).ok
    if updated(house) == IMAGES:
        assert sorted(kind for kind, _ in changes_at(house.table_path("target"), 3)) == IMAGES


@pytest.mark.parametrize("mode", ["pairs", "images"])
def test_a_target_that_keeps_every_row_only_inserts(tmp_path: Path, mode: str) -> None:
    house = open_house(tmp_path, f'mode = "append"\nchange_feed = "{mode}"\n')
    for day, name in ((20, "A"), (21, "A"), (22, "B")):
        send(house, dated(day), cells(name, f"2026-11-{day} 08:00:00"))
    undo(house, dated(21))
    rebuild(house.config)
    found = check_feed(house)
    assert {kind for changes in found.values() for kind, _ in changes} == {INSERT}
    assert not (house.table_path("target") / "_change_data").exists()
    assert verify(house.config).ok


# -- on and off -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [True, False])
def test_it_is_switched_on_and_off_by_migrate(tmp_path: Path, vectors: bool) -> None:
    house = open_house(tmp_path, deletion_vectors=vectors)
    send(house, dated(20), cells("A", EARLY), cells("B", EARLY))
    house.turn(change_feed="images")
    house.drop(dated(21), csv_bytes([cells("A", LATE)]))
    said = "the change data feed of orders_target is off: ordertrail migrate --apply switches it on"
    assert any(said in note for note in plan_files(house.config, [house.config.source / dated(21)]).notes)
    report = house.run()
    assert ([said in note for note in report.notes], report.needs_person) == ([True], False)
    toml = tmp_path / "ordertrail.toml"
    toml.write_text(
        '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nchange_feed = "images"\n'
    )
    assert any(said in one.detail for one in examine(toml).findings)
    assert [(step.kind, step.table, step.before, step.after) for step in migrate(house.config).steps] == [
        ("feed", "target", "off", "on")
    ]
    done = migrate(house.config, apply=True)
    assert (done.applied, done.batch) == (True, None)
    since = house.version()
    assert migrate(house.config).steps == ()
    send(house, dated(22), cells("A", LATER), cells("C", LATE))
    assert kinds(house) == sorted([*IMAGES, INSERT])
    check_feed(house, since=since)
    check_readers(house)
    house.turn(change_feed="off")
    assert "is on and is kept right" in house.run().notes[0]
    assert [step.text for step in migrate(house.config, apply=True).steps] == [
        "the change data feed of the target is switched off; no row is written for it"
    ]
    send(house, dated(23), cells("A", "2026-11-23 08:00:00"))
    assert named(house) == []
    with pytest.raises(Exception, match=r"(?i)change data"):
        target_of(house).load_cdf(starting_version=since)


def test_it_is_switched_on_before_other_steps_so_that_they_are_in_it(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.drop(dated(20), csv_bytes([cells("A", EARLY), cells("B", EARLY)], Layout(extra="place")))
    house.run()
    columns = (*house.config.contract.columns, Column("place", "string"))
    house.turn(change_feed="pairs", contract=replace(house.config.contract, columns=columns))
    assert [step.kind for step in migrate(house.config, apply=True).steps] == ["add", "fill", "feed"]
    assert kinds(house) == sorted(IMAGES * 2)


def test_a_column_of_a_name_that_readers_add(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    send(house, dated(20), cells("A", EARLY))
    found = pa.table(QueryBuilder().register("t", target_of(house)).execute("SELECT * FROM t"))
    taken = found.append_column("_commit_version", pa.array([1]))
    write_deltalake(target_of(house), taken, mode="overwrite", schema_mode="overwrite")
    house.turn(change_feed="pairs")
    with pytest.raises(UsageError, match="_commit_version"):
        migrate(house.config, apply=True)


def test_without_a_feed_nothing_is_written_for_it(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    for day in (20, 21):
        send(house, dated(day), cells("A", f"2026-11-{day} 08:00:00"))
    assert not (house.table_path("target") / "_change_data").exists()
    (protocol,) = (one["protocol"] for one in house.actions("target", 0) if "protocol" in one)
    assert "changeDataFeed" not in json.dumps(protocol)
    for path in target_of(house).file_uris():
        assert "_change_type" not in pq.read_schema(path).names
