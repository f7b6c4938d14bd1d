"""The search cache: whatever is in it, or is not, a search finds the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.config.values import Maintenance
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.finder import Finder, Hits
from ordertrail.look.search_cache import FOLDER, SearchCache, refresh
from ordertrail.look.status import Reader
from ordertrail.look.terms import ENDING, NUMBER, SAID, Sought, beginning, these
from ordertrail.look.track import Track
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind
from tests.harness import House, open_house, without_fsync

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
EAGER = Maintenance(max_deleted_share=0.0, file_size_bytes=4, retention_h=0, log_retention_h=0)
QUESTIONS = ("1Z0001", "ord-3", "0004", "1Z00", "9999", "ÏCODE-7", "CODE-7", "1Z0005")


def row(number: int, status: str = "IN_TRANSIT", day: int = 20, key: str = "") -> str:
    return f"ORD-{number},{key or f'1Z{number:04}'},,,{status},Elm St,2026-11-{day} 08:00:00\n"


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Two batches: ten shipments; then updates of three of them, and a new one."""
    house = open_house(tmp_path)
    with without_fsync():
        house.drop("a_2026_11_20.csv", HEADER + "".join(map(row, range(10))) + row(77, key="Ünïcode-7"))
        house.run()
        news = "".join(row(n, "DELIVERED", 21) for n in (1, 2, 3))
        house.drop("b_2026_11_21.csv", HEADER + news + row(101, day=21))
        house.run()
    return house


def answers(house: House) -> dict[str, Track]:
    with Reader(house.config) as reader:
        return {text: reader.track(text) for text in QUESTIONS}


def behind(house: House) -> int:
    with Reader(house.config) as reader:
        return Finder(reader.quick()).rows_behind()


def runs(house: House) -> list[Path]:
    return sorted((house.config.warehouse / FOLDER).rglob("*.parquet"))


def without(house: House) -> dict[str, Track]:
    """The answers of a pipeline that never had a cache."""
    for path in runs(house):
        path.rename(path.with_suffix(".away"))
    found = answers(house)
    for path in (house.config.warehouse / FOLDER).rglob("*.away"):
        path.rename(path.with_suffix(".parquet"))
    return found


def later_batch(house: House) -> None:
    house.drop("c_2026_11_22.csv", HEADER + row(5, "DELIVERED", 22) + row(6, "DELIVERED", 22) + row(102, day=22))
    house.run()


def undo(house: House) -> None:
    wanted = Wanted(
        Correction(CorrectionKind.UNDO, (str(house.delivery("b_2026_11_21.csv")["delivery_id"]),), "x", "me")
    )
    correct(house.pipeline(), wanted)


def maintained(house: House) -> None:
    """Compacted, and a file that the runs are of is gone from the disk."""
    folder = house.config.table_path(house.config.tables.target)
    before = set(folder.glob("*.parquet"))
    for _ in range(2):  # the second one removes the files that the first one has replaced
        maintain(replace(house.config, maintenance=EAGER))
    assert before - set(folder.glob("*.parquet"))


MOVES: dict[str, Callable[[House], object]] = {
    "nothing": lambda house: None,
    "a batch": later_batch,
    "an undo": undo,
    "maintenance": lambda house: maintained(house),
    "a rebuild": lambda house: rebuild(house.config),
}


@pytest.mark.series
@pytest.mark.parametrize("move", MOVES)
def test_a_search_finds_the_same_whatever_happens_to_the_tables(house: House, move: str) -> None:
    with without_fsync():
        assert refresh(house.config) == 4
        assert behind(house) == 0
        MOVES[move](house)
        found = answers(house)
    assert found == without(house)
    assert found["1Z0005"].current is not None
    assert [one.key for one in found["0004"].matches] == ["1Z0004"]
    assert found["ÏCODE-7"].key == found["CODE-7"].key == "Ünïcode-7"
    with without_fsync():
        refresh(house.config)
    assert behind(house) == 0
    assert answers(house) == found


@pytest.mark.slow
def test_few_runs_stay_however_many_batches_come(house: House) -> None:
    with without_fsync():
        for day in range(10, 28):
            house.drop(f"d_2026_11_{day}.csv", HEADER + row(200 + day, day=day))
            house.run()
            refresh(house.config)
    names = [path.name for path in runs(house)]
    assert len([name for name in names if name.startswith(f"{NUMBER}-")]) <= 5
    assert answers(house) == without(house)


@pytest.mark.series
@pytest.mark.parametrize("wrong", ["cut", "empty", "text", "gone"])
def test_a_run_that_cannot_be_read_is_passed_over_and_written_anew(house: House, wrong: str) -> None:
    with without_fsync():
        refresh(house.config)
    found = without(house)
    for path in runs(house):
        content = path.read_bytes()
        if wrong == "gone":
            path.unlink()
        else:
            path.write_bytes({"cut": content[:-20], "empty": b"", "text": b"PAR1 hello"}[wrong])
    assert answers(house) == found
    with without_fsync():
        assert refresh(house.config) == 4
    assert answers(house) == found


def test_a_run_with_a_damaged_inside_does_not_fail_a_search(house: House) -> None:
    with without_fsync():
        refresh(house.config)
    found = without(house)
    for path in runs(house):
        content = bytearray(path.read_bytes())
        content[4:60] = os.urandom(56)
        path.write_bytes(bytes(content))
    with Reader(house.config) as reader:
        assert reader.track("1Z0001").current == found["1Z0001"].current


def test_the_cache_of_another_pipeline_is_not_believed(house: House, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = open_house(tmp_path_factory.mktemp("other"))
    with without_fsync():
        other.drop("a_2026_11_20.csv", HEADER + row(1, key="1Z7777"))
        other.run()
        refresh(other.config)
    folder = SearchCache(house.config).folder
    folder.mkdir(parents=True)
    for path in runs(other):
        (folder / path.name).write_bytes(path.read_bytes())
    assert answers(house) == without(house)
    with Reader(house.config) as reader:
        assert not reader.track("7777").matches


def test_a_number_that_nobody_knows_is_told_by_one_reading_of_all_numbers(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside those for the number itself. Without sorted terms each further way to search would be another one."""
    looked: list[tuple[str, str]] = []
    before = Finder.find

    def find(finder: Finder, kind: str, sought: Sought, *more: int, where: str = "true") -> Hits:
        looked.append((kind, sought.sql.partition("(")[0]))
        return before(finder, kind, sought, *more, where=where)

    monkeypatch.setattr(Finder, "find", find)
    with Reader(house.config) as reader:
        assert reader.track("8888").matches == ()
    assert sorted(looked[:2]) == [(NUMBER, "term IN "), (SAID, "term IN ")]
    assert looked[2:] == [(NUMBER, "contains"), ("order_0", "term IN ")]
    monkeypatch.setattr("ordertrail.look.tracking.MOST_HELD", 3)
    monkeypatch.setattr(Finder, "find", before)
    few = answers(house)
    monkeypatch.undo()
    assert few == answers(house)


def test_hits_are_live_rows_and_cut_tells_of_more(house: House) -> None:
    with without_fsync():
        refresh(house.config)
    with Reader(house.config) as reader:
        look = reader.quick()
        finder = Finder(look)
        one = finder.find(NUMBER, these("1z0001"))
        assert len(one) == 1  # the row before the update is marked in a vector
        assert look.read(f"FROM {finder.rows_sql(one)}").to_pylist()[0]["status"] == "DELIVERED"
        assert len(finder.find(SAID, these("1z0001"))) == 2
        some = finder.find(ENDING, beginning("1"), 1)
        assert (len(some), some.cut) == (1, True)
        assert not finder.find(NUMBER, beginning("2z"), 5).rows


def test_a_search_of_empty_tables_finds_nothing(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.run()
    assert refresh(house.config) == 0
    with Reader(house.config) as reader:
        assert reader.track("1Z0001") == Track("1Z0001", None, ())
