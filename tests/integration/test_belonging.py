"""The set knows itself: disks that are not mounted, mistyped folders and copied configs are told from a first run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ordertrail import markers
from ordertrail.errors import OrdertrailError, SourceError, StorageError
from ordertrail.look.plan import plan_files
from ordertrail.look.status import Reader, status_of
from ordertrail.look.verify import verify
from ordertrail.markers import MARKER, begin_anew, read_marker
from ordertrail.rules.belonging import Marker
from tests.feeds import cells, csv_bytes
from tests.harness import House, open_house, without_fsync


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with without_fsync():
        yield


def put(house: House, day: int, *keys: str) -> None:
    rows = [cells(key, f"2026-11-{day:02d} 10:00:00") for key in keys]
    house.drop(f"order_tracking_2026_11_{day:02d}.csv", csv_bytes(rows))


def keys(house: House) -> set[str]:
    return {str(key[0]) for key in house.target()}


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A pipeline with one batch, and a file that waits."""
    house = open_house(tmp_path / "set")
    put(house, 20, "1")
    house.run()
    put(house, 21, "2")
    return house


def refused(house: House, kind: type[OrdertrailError], *words: str) -> None:
    """A pass is refused in these words, and has made and moved nothing."""
    before = tree(house.config.source.parent)
    with pytest.raises(kind) as caught:
        house.run()
    for word in words:
        assert word in str(caught.value)
    assert tree(house.config.source.parent) == before


def owners(folder: Path) -> list[str]:
    marker = read_marker(folder)
    return [] if marker is None else [owner.app_id for owner in marker.owners]


def without_markers(*houses: House) -> None:
    """As today's pipelines are: made before there were markers."""
    for house in houses:
        for folder in (house.config.source, house.config.archive):
            (folder / MARKER).unlink(missing_ok=True)


def test_markers_bear_the_id_of_the_tables(house: House) -> None:
    app_id = house.actions("target", 0)[2]["metaData"]["configuration"]["ordertrail.appId"]
    found = json.loads((house.config.archive / MARKER).read_text())
    assert found["pipelines"][0].items() >= {"id": app_id, "pipeline": "orders"}.items()
    assert owners(house.config.archive) == owners(house.config.source) == [app_id]
    times = [(folder / MARKER).stat().st_mtime_ns for folder in (house.config.archive, house.config.source)]
    house.run()
    assert times == [(folder / MARKER).stat().st_mtime_ns for folder in (house.config.archive, house.config.source)]


@pytest.mark.parametrize("mount_point", [True, False], ids=["empty folder", "no folder"])
def test_a_warehouse_that_is_not_mounted_is_no_first_run(house: House, tmp_path: Path, mount_point: bool) -> None:
    warehouse = house.config.warehouse
    warehouse.rename(tmp_path / "away")
    if mount_point:
        warehouse.mkdir()
    refused(house, StorageError, "the tables of pipeline orders are not in", "is the disk mounted", "init --anew")
    for ask in (status_of, verify, Reader, lambda config: plan_files(config, [])):
        with pytest.raises(
            StorageError, match=rf"are not in {warehouse}/incremental_load/default, .*is the disk mounted"
        ):
            ask(house.config)
    if mount_point:
        warehouse.rmdir()
    (tmp_path / "away").rename(warehouse)
    house.run()
    assert keys(house) == {"1", "2"}
    assert verify(house.config).ok


def test_a_mistyped_warehouse_is_no_first_run_even_without_markers(house: House, tmp_path: Path) -> None:
    without_markers(house)
    house.turn(warehouse=house.config.warehouse.with_name("warehous"))
    refused(house, StorageError, "warehous", "is the disk mounted")


def test_begun_again_the_tables_are_new_and_the_old_ones_do_not_come_back(house: House, tmp_path: Path) -> None:
    old = owners(house.config.archive)
    house.config.warehouse.rename(tmp_path / "away")
    begin_anew(house.config)
    house.run()
    assert keys(house) == {"2"}
    assert owners(house.config.archive) == owners(house.config.source) != old
    house.run()
    house.config.warehouse.rename(tmp_path / "new")
    (tmp_path / "away").rename(house.config.warehouse)
    put(house, 22, "3")
    refused(house, SourceError, "the archive", "belongs to pipeline orders")


def test_tables_made_before_markers_do_not_come_back_once_begun_again(house: House, tmp_path: Path) -> None:
    without_markers(house)
    house.config.warehouse.rename(tmp_path / "away")
    begin_anew(house.config)
    house.run()
    house.config.warehouse.rename(tmp_path / "new")
    (tmp_path / "away").rename(house.config.warehouse)
    refused(house, SourceError, "belongs to pipeline orders")


@pytest.mark.parametrize("mount_point", [True, False], ids=["empty folder", "no folder"])
def test_an_archive_that_is_not_mounted_takes_no_file(house: House, tmp_path: Path, mount_point: bool) -> None:
    archive = house.config.archive
    archive.rename(tmp_path / "away")
    if mount_point:
        archive.mkdir()
    refused(house, SourceError, "the archive of pipeline orders is not in", "is the disk mounted", "init --anew")
    if mount_point:
        archive.rmdir()
    (tmp_path / "away").rename(archive)
    house.run()
    assert keys(house) == {"1", "2"}
    assert len(house.archived()) == 2


def test_an_archive_that_was_emptied_on_purpose_is_taken_anew(house: House, tmp_path: Path) -> None:
    before = owners(house.config.archive)
    house.config.archive.rename(tmp_path / "away")
    begin_anew(house.config)
    house.run()
    assert keys(house) == {"1", "2"}
    assert owners(house.config.archive) == before == owners(house.config.source)
    house.run()


@pytest.mark.parametrize(
    "changes",
    [("warehouse",), ("warehouse", "archive"), ("warehouse", "name"), ("warehouse", "archive", "name")],
    ids="+".join,
)
def test_a_copied_config_does_not_take_the_files_of_the_first(house: House, changes: tuple[str, ...]) -> None:
    copy = House(house.config)
    for name in changes:
        copy.turn(**{name: "test" if name == "name" else house.config.source.with_name(f"other-{name}")})
    kind = StorageError if changes == ("warehouse",) else SourceError
    refused(copy, kind, "are not in" if kind is StorageError else "belongs to pipeline orders (since ")
    house.run()
    assert keys(house) == {"1", "2"}


def twins(tmp_path: Path) -> tuple[House, House]:
    """Two pipelines that share source and archive, each with files of its own."""
    found = []
    for name in ("blue", "red"):
        house = open_house(
            tmp_path,
            f'name = "{name}"\n[[vendors]]\nname = "{name}"\nfiles = "{name}*.csv"\n',
            warehouse=tmp_path / name,
        )
        found.append(house)
    return found[0], found[1]


def test_pipelines_from_before_markers_go_on_sharing_source_and_archive(tmp_path: Path) -> None:
    blue, red = twins(tmp_path)
    for number, house in enumerate((blue, red), 1):
        if number > 1:
            begin_anew(house.config)  # what the hint of the refusal says
        house.drop(f"{house.config.name}_2026_11_20.csv", csv_bytes([cells(str(number), "2026-11-20 10:00:00")]))
        house.run()
    assert len(owners(tmp_path / "archive")) == len(owners(tmp_path / "source")) == 2
    without_markers(blue, red)
    for _ in range(2):
        for number, house in enumerate((blue, red), 1):
            house.drop(f"{house.config.name}_2026_11_21.csv", csv_bytes([cells(f"1{number}", "2026-11-20 10:00:00")]))
            house.run()
    assert (keys(blue), keys(red)) == ({"1", "11"}, {"2", "12"})
    assert len(owners(tmp_path / "archive")) == len(owners(tmp_path / "source")) == 2


def test_a_second_pipeline_on_a_source_needs_a_word(tmp_path: Path) -> None:
    blue, red = twins(tmp_path)
    blue.drop("blue_2026_11_20.csv", csv_bytes([cells("1", "2026-11-20 10:00:00")]))
    blue.run()
    red.turn(archive=tmp_path / "archive-red")
    refused(red, SourceError, "the source", "belongs to pipeline blue", "share it", "init --anew")
    begin_anew(red.config)
    red.run()
    blue.run()
    assert len(owners(tmp_path / "source")) == 2
    assert len(owners(tmp_path / "archive-red")) == len(owners(tmp_path / "archive")) == 1


@pytest.mark.parametrize("emptied", [False, True])
def test_a_pipeline_from_before_markers_gets_them_if_its_last_files_are_there(house: House, emptied: bool) -> None:
    without_markers(house)
    if emptied:
        for file in house.config.archive.rglob("*.csv"):
            file.unlink()
        refused(house, SourceError, "the files that it archived last are not in there")
        return
    house.run()
    assert len(owners(house.config.archive)) == 1
    assert owners(house.config.archive) == owners(house.config.source)


def test_a_staged_batch_from_before_markers_is_finished(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    put(house, 20, "1")
    house.stage()
    without_markers(house)
    house.load()
    put(house, 21, "2")
    house.stage()
    without_markers(house)
    house.load()
    assert keys(house) == {"1", "2"}
    assert len(owners(house.config.archive)) == 1


def test_a_source_that_is_not_mounted_is_noticed_where_its_marker_is_required(house: House, tmp_path: Path) -> None:
    house.turn(source_marker="require")
    house.config.source.rename(tmp_path / "away")
    house.config.source.mkdir()
    refused(house, SourceError, f"no marker {MARKER} of pipeline orders: is it mounted?", "init --anew")
    house.config.source.rmdir()
    (tmp_path / "away").rename(house.config.source)
    house.run()
    assert keys(house) == {"1", "2"}
    house.config.source.rename(tmp_path / "away")
    put(house, 22, "3")
    begin_anew(house.config)
    house.run()
    assert keys(house) == {"1", "2", "3"}


def test_the_sources_marker_comes_back_by_default_and_may_be_left_out(house: House) -> None:
    (house.config.source / MARKER).unlink()
    house.run()
    assert owners(house.config.source) == owners(house.config.archive)
    (house.config.source / MARKER).unlink()
    house.turn(source_marker="off")
    house.run()
    assert not (house.config.source / MARKER).exists()


def test_a_source_that_cannot_be_written_needs_no_marker_unless_one_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = open_house(tmp_path)
    write: Callable[[Path, Marker], None] = markers.write_marker

    def read_only(folder: Path, marker: Marker) -> None:
        if folder == house.config.source:
            raise PermissionError(13, "Permission denied")
        write(folder, marker)

    monkeypatch.setattr(markers, "write_marker", read_only)
    put(house, 20, "1")
    house.turn(source_marker="require")
    with pytest.raises(SourceError, match=r"cannot write .*source"):
        house.run()
    assert house.left() != []
    house.turn(source_marker="write")
    house.run()
    assert keys(house) == {"1"}


def test_a_full_archive_is_told_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = open_house(tmp_path)

    def full(folder: Path, marker: Marker) -> None:
        raise OSError(28, "No space left on device")

    put(house, 20, "1")
    with monkeypatch.context() as context:
        context.setattr(markers, "write_marker", full)
        with pytest.raises(StorageError, match=r"cannot write .*archive"):
            house.run()
    house.run()
    assert keys(house) == {"1"}


@pytest.mark.series
@pytest.mark.parametrize("text", ["", "{", "[]", '{"pipelines": [1]}', '{"pipelines": [{"id": 1}]}', "\udcff"])
def test_a_damaged_marker_is_told_and_its_hint_works(house: House, text: str) -> None:
    marker = house.config.archive / MARKER
    marker.write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(house, SourceError, f"the marker {marker} is damaged", "delete that file, then run ordertrail init --anew")
    marker.unlink()
    begin_anew(house.config)
    house.run()
    assert keys(house) == {"1", "2"}


def test_a_first_run_without_its_source_makes_nothing(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.config.source.rmdir()
    refused(house, SourceError, "cannot read the source folder")
    assert tree(tmp_path) == set()
