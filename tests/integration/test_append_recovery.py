"""A target that keeps every row, after what was killed: passes, corrections and migrations, and rebuilds in between."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from msgspec.structs import replace

from ordertrail.keep.rebuild import rebuild
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.mend.migration import migrate
from ordertrail.model import Correction, CorrectionKind, Probe, no_probe
from tests.feeds import cells, csv_bytes, dated
from tests.harness import CLOCKS, House, bag, check_books, check_readers, open_house
from tests.spark.engines import Crash, crash_at

APPEND = 'mode = "append"\n'
NOON, LATE = "2026-11-20 12:00:00", "2026-11-20 13:00:00"
FIRST, SECOND, THIRD = dated(20), dated(21), dated(22)
Act = Callable[[House, Probe], object]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files with a row in common, and a third one that waits."""
    folder = tmp_path_factory.mktemp("filled") / "house"
    made = open_house(folder, APPEND)
    for name, rows in (
        (FIRST, [cells("A", NOON), cells("A", LATE, "DELIVERED"), cells("B", NOON)]),
        (SECOND, [cells("A", NOON), cells("C", NOON)]),
    ):
        made.drop(name, csv_bytes(rows))
        made.run()
    made.drop(THIRD, csv_bytes([cells("B", NOON), cells("D", NOON), cells("D", LATE)]))
    return folder


@pytest.fixture
def copies(filled: Path, tmp_path: Path) -> Callable[[], House]:
    """Makes copies of that pipeline."""
    made: list[House] = []

    def make() -> House:
        folder = tmp_path / str(len(made))
        shutil.copytree(filled, folder)
        made.append(open_house(folder, APPEND))
        return made[-1]

    return make


def mend(kind: CorrectionKind, name: str) -> Act:
    def act(house: House, probe: Probe) -> object:
        one = str(house.delivery(name)["delivery_id"])
        return correct(house.pipeline(probe), Wanted(Correction(kind, (one,), "a test", "ops")))

    return act


def load(house: House, probe: Probe) -> object:
    return house.run(probe)


def ranked(house: House) -> House:
    house.turn(contract=replace(house.config.contract, status_rank=("DELIVERED",)))
    return house


def migrated(house: House, probe: Probe) -> object:
    return migrate(ranked(house).config, apply=True, probe=probe)


def state(house: House) -> dict[str, Counter[Any]]:
    """All rows but those of the stage, without their times."""
    found = {}
    for table in ("target", "history", "rejects", "deliveries"):
        rows = [{name: cell for name, cell in row.items() if name not in CLOCKS} for row in house.rows(table)]
        for row in rows:
            row.pop("archived_to", None)
        found[table] = bag(rows)
    return found


ACTS: dict[str, Act] = {
    "load": load,
    "undo": mend(CorrectionKind.UNDO, FIRST),
    "replay": mend(CorrectionKind.REPLAY, FIRST),
    "migrate": migrated,
}


@pytest.mark.series
@pytest.mark.parametrize("name", ACTS)
def test_killed_between_any_two_commits(copies: Callable[[], House], name: str) -> None:
    act = ACTS[name]
    effects: list[str] = []
    whole = copies()
    act(whole, effects.append)
    whole.run()
    wanted = state(whole)
    for effect in dict.fromkeys(effects):
        if not effect.endswith((".committed", "load.files", "load.indexed")):
            continue
        house = copies()
        with pytest.raises(Crash):
            act(house, crash_at(effect))
        if effect in ("load.committed", "history.committed"):
            assert rebuild(house.config).written == 0  # what the batch has appended stays, and the next pass records it
        house.run()
        assert state(house) == wanted, effect
        check_books(house)
        assert [check.name for check in verify(house.config).checks if not check.ok] == []
    check_readers(whole)


def test_a_change_feed_of_a_target_that_is_only_appended_to(copies: Callable[[], House]) -> None:
    house = copies()
    house.turn(change_feed="pairs")
    assert migrate(house.config, apply=True).applied
    features = DeltaTable(house.table_path("target")).protocol().writer_features
    assert features is not None
    assert {"appendOnly", "changeDataFeed"} <= {*features}
    since = house.version() + 1
    house.run(no_probe)
    mend(CorrectionKind.UNDO, FIRST)(house, no_probe)
    feed = pa.table(DeltaTable(house.table_path("target")).load_cdf(starting_version=since))
    said = Counter(zip(feed["_change_type"].to_pylist(), feed["tracking_num"].to_pylist(), strict=True))
    # D came twice; of what was taken back, the later files had said A and B as well.
    assert said == Counter({("insert", "D"): 2, ("insert", "A"): 1, ("insert", "B"): 1})
    assert [check.name for check in verify(house.config).checks if not check.ok] == []
    check_readers(house)


def test_a_column_that_a_file_brings(tmp_path: Path) -> None:
    """Rows that are there get NULL in it, and none is written again; the same row again is still a duplicate."""
    house = open_house(tmp_path, APPEND + '[contract]\nunknown_columns = "add"\n')
    house.drop(FIRST, csv_bytes([cells("A", NOON)]))
    house.run()
    lines = csv_bytes([cells("A", NOON), cells("B", NOON)]).splitlines()
    house.drop(SECOND, b"\n".join([lines[0] + b",depot", lines[1] + b",", lines[2] + b",D1"]))
    report = house.run()
    assert report.added_columns == ("depot",)
    assert (report.rows.inserted, report.rows.duplicate) == (1, 1)
    assert not any(
        "remove" in action for version in range(house.version() + 1) for action in house.actions("target", version)
    )
    assert [check.name for check in verify(house.config).checks if not check.ok] == []
