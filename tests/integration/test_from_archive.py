"""`rebuild --history-from-archive`: history and rejects again as undisturbed batches left them, out of the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from msgspec.structs import replace

from ordertrail.cli import cli
from ordertrail.errors import TableError
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.verify import verify
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House, bag, check_books, check_readers, copied, open_house, without_fsync

EARLY, LATE, LATER = "2026-11-20 08:00:00", "2026-11-21 08:00:00", "2026-11-22 08:00:00"

Damage = Callable[[House], None]


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    with without_fsync():
        yield


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Four batches with every outcome, rejects, a duplicate, an empty and two quarantined deliveries. Only to copy."""
    made = open_house(tmp_path_factory.mktemp("life"), max_reject_share=0.5)
    first = csv_bytes([cells("A", EARLY), cells("B", EARLY), cells("C", EARLY), cells("A", EARLY), cells("X", "no")])
    send(made, dated(20), first)
    made.drop("empty.csv", "")
    made.drop("bad.csv", "what,is,this\n1,2,3\n")
    news = (cells("A", LATE, "DELIVERED"), cells("C", EARLY, address="Y"), cells("D", LATE), cells("A", EARLY))
    send(made, dated(21), csv_bytes([*news, cells("B", EARLY)]))
    send(made, dated(19), first)
    mostly_bad = [cells("A", EARLY, address="old"), cells("F", "never"), cells("G", "never")]
    made.drop("order_tracking_2026_11_18.csv", csv_bytes(mostly_bad))
    send(made, dated(22), csv_bytes([cells("A", LATER, "RETURNED"), cells("E", "yesterday"), cells("E", LATER)]))
    return made


@pytest.fixture
def house(life: House, tmp_path: Path) -> House:
    """That life, to go on with."""
    return copied(life, tmp_path / "house")


def send(house: House, name: str, content: bytes) -> None:
    house.drop(name, content)
    house.run()


def archived(house: House, name: str) -> Path:
    """The archived file of the newest delivery of a name."""
    return house.config.archive / str(house.delivery(name)["archived_to"])


def contents(house: House) -> dict[str, int]:
    tables = house.table_path("target").parent
    return {str(path.relative_to(tables)): path.stat().st_size for path in tables.rglob("*") if path.is_file()}


def is_as_before(house: House, life: House) -> None:
    for table in ("target", "history", "rejects", "deliveries"):
        assert bag(house.rows(table)) == bag(life.rows(table)), table
    assert house.run().warnings == ()
    assert [check for check in verify(house.config).checks if not check.ok] == []
    check_books(house)
    check_readers(house)


# -- the cure for damage --------------------------------------------------------------------------------------------


def nothing(house: House) -> None:
    """Sound tables: the same again."""


def lose_the_history(house: House) -> None:
    shutil.rmtree(house.table_path("history"))


def lose_the_rejects(house: House) -> None:
    shutil.rmtree(house.table_path("rejects"))


def lose_all_three(house: House) -> None:
    for table in ("target", "history", "rejects"):
        shutil.rmtree(house.table_path(table))


def lose_the_last_entry(house: House) -> None:
    (house.table_path("history") / "_delta_log" / f"{house.version('history'):020d}.json").unlink()


def lose_the_files(house: House) -> None:
    for path in house.table_path("history").glob("*.parquet"):
        path.unlink()


def spoil_a_block_of_both(house: House) -> None:
    """The data file of the first batch is one inode in target and history: one bad block takes both."""
    (name,) = (path.name for path in house.table_path("target").glob("b000001-*.parquet"))
    inode = (house.table_path("target") / name).read_bytes()
    for path in house.table_path("history").glob("b000001-*.parquet"):
        if path.read_bytes() == inode:
            path.write_bytes(inode[:40] + bytes(60) + inode[100:])
    path = house.table_path("target") / name
    path.write_bytes(inode[:40] + bytes(60) + inode[100:])


def delete_rows(house: House) -> None:
    DeltaTable(house.table_path("history")).delete("tracking_num = 'A'")


def lose_the_stage_and_a_record(house: House) -> None:
    shutil.rmtree(house.table_path("stage"))
    lose_the_rejects(house)


@pytest.mark.series
@pytest.mark.parametrize(
    "damage",
    [
        nothing, lose_the_history, lose_the_rejects, lose_all_three, lose_the_last_entry, lose_the_files,
        spoil_a_block_of_both, delete_rows, lose_the_stage_and_a_record,
    ],
)  # fmt: skip
def test_it_cures_what_happened_to_history_and_rejects(house: House, life: House, damage: Damage) -> None:
    damage(house)
    report = rebuild(house.config, from_archive=True)
    assert report.history is not None
    assert (report.history.deliveries_read, report.history.deliveries_kept, report.warnings) == (5, 0, ())
    is_as_before(house, life)


@pytest.mark.parametrize("table", ["history", "rejects"])
def test_a_damaged_log_is_moved_away_as_the_error_says(house: House, life: House, tmp_path: Path, table: str) -> None:
    log = house.table_path(table) / "_delta_log"
    (log / f"{house.version(table):020d}.json").write_bytes(b"")
    before = contents(house)
    with pytest.raises(TableError) as caught:
        rebuild(house.config, from_archive=True)
    assert f"move the folder {house.table_path(table)} away" in caught.value.hint
    assert contents(house) == before
    house.table_path(table).rename(tmp_path / "aside")
    rebuild(house.config, from_archive=True)
    is_as_before(house, life)


def test_batches_go_on_after_it(house: House, life: House, tmp_path: Path) -> None:
    twin = copied(life, tmp_path / "twin")
    lose_all_three(house)
    rebuild(house.config, from_archive=True)
    for each in (house, twin):
        send(each, dated(23), csv_bytes([cells("A", "2026-11-23 08:00:00"), cells("B", EARLY), cells("C", EARLY)]))
    assert house.outcomes() == twin.outcomes()
    assert house.target() == twin.target()
    assert verify(house.config).ok


def test_history_and_target_share_no_file_afterwards(house: House) -> None:
    rebuild(house.config, from_archive=True)
    for table in ("history", "target"):
        for uri in DeltaTable(house.table_path(table)).file_uris():
            assert (house.table_path(table) / Path(uri).name).stat().st_nlink == 1


def test_a_dry_run_writes_nothing(house: House) -> None:
    lose_the_history(house)
    before = contents(house)
    report = rebuild(house.config, from_archive=True, dry_run=True)
    assert report.history is not None
    assert (report.history.deliveries_read, report.history_rows) == (5, 11)
    assert contents(house) == before
    assert not list(house.config.warehouse.glob(".ordertrail-rebuild-*"))


# -- what cannot be had ---------------------------------------------------------------------------------------------


def delete(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"DELIVERED", b"IN_TRANSI"))


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more\n")


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.series
@pytest.mark.parametrize(
    ("act", "words"),
    [(delete, "is not there"), (change, "has SHA-256"), (grow, "bytes were loaded"), (link, "is no regular file")],
)
def test_a_file_that_is_gone_or_changed_is_named_and_nothing_is_written(
    house: House, life: House, act: Callable[[Path], None], words: str
) -> None:
    path = archived(house, dated(21))
    before = path.read_bytes()
    act(path)
    lose_the_history(house)
    tables = contents(house)
    with pytest.raises(TableError) as caught:
        rebuild(house.config, from_archive=True)
    assert dated(21) in caught.value.message
    assert words.replace("bytes were loaded", "were loaded") in caught.value.message
    assert contents(house) == tables
    path.unlink(missing_ok=True)
    path.write_bytes(before)
    rebuild(house.config, from_archive=True)
    is_as_before(house, life)


def test_the_same_bytes_elsewhere_in_the_archive_will_do(house: House, life: House) -> None:
    archived(house, dated(20)).unlink()
    lose_the_history(house)
    report = rebuild(house.config, from_archive=True)
    assert report.history is not None
    assert report.history.deliveries_read == 5
    for table in ("target", "history", "rejects"):
        assert bag(house.rows(table)) == bag(life.rows(table)), table


@pytest.mark.parametrize("damage", [nothing, lose_the_rejects])
def test_rows_whose_file_is_gone_are_taken_from_the_old_history(house: House, life: House, damage: Damage) -> None:
    archived(house, dated(21)).unlink()
    damage(house)
    report = rebuild(house.config, from_archive=True)
    assert report.history is not None
    assert (report.history.deliveries_read, report.history.deliveries_kept) == (4, 1)
    for table in ("target", "history", "rejects"):
        assert bag(house.rows(table)) == bag(life.rows(table)), table
    assert verify(house.config).ok


def test_rows_that_somebody_changed_are_not_taken_from_the_old_history(house: House) -> None:
    archived(house, dated(21)).unlink()
    DeltaTable(house.table_path("history")).update(updates={"address": "'x'"}, predicate="tracking_num = 'D'")
    with pytest.raises(TableError, match="cannot be had") as caught:
        rebuild(house.config, from_archive=True)
    assert dated(21) in caught.value.message


def test_rejects_that_cannot_be_had_are_told(house: House) -> None:
    archived(house, dated(20)).unlink()
    archived(house, dated(19)).unlink()
    lose_the_rejects(house)
    report = rebuild(house.config, from_archive=True)
    assert any("the rejects of" in text and dated(20) in text for text in report.warnings)


def test_a_vendor_that_is_gone_from_the_config_is_named(house: House) -> None:
    lose_the_history(house)
    house.config = replace(house.config, vendors=tuple(replace(v, name="other") for v in house.config.vendors))
    with pytest.raises(TableError, match="is no longer in the config"):
        rebuild(house.config, from_archive=True)


def test_after_a_change_of_the_profile_the_old_rows_stay_where_they_are_there(house: House, life: House) -> None:
    mapped = replace(house.config.vendors[0], status_map=(("IN_TRANSIT", "PICKED_UP"),))
    house.config = replace(house.config, vendors=(mapped,))
    report = rebuild(house.config, from_archive=True)
    assert report.history is not None
    assert report.history.deliveries_kept == 3
    assert report.warnings == ()
    assert bag(house.rows("history")) == bag(life.rows("history"))


def test_after_a_change_of_the_profile_files_are_read_by_todays_rules_and_named(house: House) -> None:
    mapped = replace(house.config.vendors[0], status_map=(("IN_TRANSIT", "PICKED_UP"),))
    house.config = replace(house.config, vendors=(mapped,))
    lose_the_history(house)
    report = rebuild(house.config, from_archive=True)
    assert len(report.warnings) == 3
    assert "was changed since it came" in report.warnings[0]
    assert {row["status"] for row in house.rows("history")} == {"PICKED_UP", "DELIVERED", "RETURNED"}
    assert verify(house.config).ok


def test_a_file_that_does_not_give_its_rows_any_more_is_refused(house: House) -> None:
    columns = tuple(
        replace(column, allowed=("RETURNED",)) if column.name == "status" else column
        for column in house.config.contract.columns
    )
    house.config = replace(house.config, contract=replace(house.config.contract, columns=columns))
    lose_the_history(house)
    before = contents(house)
    with pytest.raises(TableError, match="do not give the rows that were loaded") as caught:
        rebuild(house.config, from_archive=True)
    assert dated(20) in caught.value.message
    assert contents(house) == before


# -- beside others --------------------------------------------------------------------------------------------------


def test_outcomes_that_a_foreign_write_led_astray_are_set_right(house: House) -> None:
    """A deleted row made the next one an insert; undisturbed it is an update, in history and deliveries alike."""
    DeltaTable(house.table_path("target")).delete("tracking_num = 'A'")
    send(house, dated(23), csv_bytes([cells("A", "2026-11-23 08:00:00")]))
    assert house.outcomes()[dated(23), 1] == "inserted"
    report = rebuild(house.config, from_archive=True)
    assert any("led astray" in note for note in report.notes)
    assert house.outcomes()[dated(23), 1] == "updated"
    assert [check for check in verify(house.config).checks if not check.ok] == []
    check_books(house)


def test_a_batch_under_way_is_left_to_the_next_pass(house: House, life: House, tmp_path: Path) -> None:
    twin = copied(life, tmp_path / "twin")
    rows = csv_bytes([cells("A", "2026-11-23 08:00:00"), cells("N", LATE), cells("E", "yesterday")])
    send(twin, dated(23), rows)
    house.drop(dated(23), rows)

    class Killed(BaseException):
        pass

    def kill(name: str) -> None:
        if name == "rejects.committed":
            raise Killed

    with pytest.raises(Killed):
        house.run(kill)
    rebuild(house.config, from_archive=True)
    assert house.run().recovered
    assert house.outcomes() == twin.outcomes()
    assert house.target() == twin.target()
    assert verify(house.config).ok


def test_rows_that_were_adopted_come_from_no_file(house: House) -> None:
    deliveries = DeltaTable(house.table_path("deliveries"))
    found = QueryBuilder().register("t", deliveries).execute("SELECT * FROM t WHERE file_name = 'empty.csv'")
    one = pa.table(found)
    (row,) = one.to_pylist()
    row |= {"state": "loaded", "sha256": "", "batch": 0, "rows_parsed": 1, "rows_inserted": 1}
    write_deltalake(deliveries, pa.Table.from_pylist([row], schema=one.schema), mode="append")
    with pytest.raises(TableError, match="come from no file"):
        rebuild(house.config, from_archive=True)


def test_the_command_and_its_document(house: House, tmp_path: Path) -> None:
    config = tmp_path / "ordertrail.toml"
    config.write_text(
        f'[pipeline]\nsource = "{house.config.source}"\narchive = "{house.config.archive}"\n'
        f'warehouse = "{house.config.warehouse}"\nsettle_s = 0\n'
    )
    lose_the_history(house)
    words = ["rebuild", "--history-from-archive", "--config", str(config)]
    shown = CliRunner().invoke(cli, [*words, "--dry-run"])
    assert "5 archived files read again" in shown.output
    assert "Nothing was written" in shown.output
    done = CliRunner().invoke(cli, [*words, "--json"])
    assert done.exit_code == 0, done.output
    history = json.loads(done.stdout)["history"]
    assert history == {"deliveries_read": 5, "deliveries_kept": 0, "history_rows": 11, "rejects_rows": 6}
