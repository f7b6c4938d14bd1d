"""The feed of a target replayed from empty is the target at every version, whatever happened to the pipeline."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from msgspec.structs import replace

from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.mend.migration import migrate
from ordertrail.model import Column, Correction, CorrectionKind
from tests.change_feed import by_delta_rs, by_polars, check_feed
from tests.feeds import ADDRESSES, KEYS, STATUSES, Layout, cells, csv_bytes, dated
from tests.harness import House, check_readers, open_house, without_fsync

STEPS = int(os.environ.get("STEPS", "30"))

pytestmark = [pytest.mark.property, pytest.mark.timeout(max(300, 10 * STEPS))]

SOME_KEYS = (*KEYS, *(f"K{number:02d}" for number in range(12)))
FIRST_TIME = datetime(2026, 9, 1, tzinfo=UTC)
DEBT = {"max_small_files": 3, "max_deleted_share": 0.2}


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    with without_fsync():
        yield


MODES = [("pairs", True), ("images", True), pytest.param("images", False, marks=pytest.mark.slow)]
"""Mode, and whether the target takes vectors."""


@dataclass(slots=True)
class Life:
    """A pipeline, and what may happen to it next."""

    house: House
    dice: random.Random
    number: int = 0

    def batch(self) -> None:
        """Files with some rows each: new, newer, older, equal and repeated ones."""
        for _ in range(self.dice.randint(1, 2)):
            self.number += 1
            # Time goes on, so that however many steps there are, some rows are newer than what the target has.
            times = [f"{FIRST_TIME + timedelta(hours=self.number + one):%Y-%m-%d %H:%M:%S}" for one in range(9)]
            rows = [
                cells(*(self.dice.choice(words) for words in (SOME_KEYS, times, STATUSES, ADDRESSES)))
                for _ in range(self.dice.randint(1, 12))
            ]
            name = f"n{self.number:03d}_{dated(22 + self.dice.randint(0, 6))}"
            self.house.drop(name, csv_bytes(rows, Layout(extra=self.dice.choice((None, "note")))))
        self.house.run()

    def correction(self) -> None:
        """A delivery is taken back, or counts again."""
        kind = self.dice.choice((CorrectionKind.UNDO, CorrectionKind.UNDO, CorrectionKind.REDO))
        state = "loaded" if kind is CorrectionKind.UNDO else "undone"
        found = sorted(str(row["delivery_id"]) for row in self.house.rows("deliveries") if row["state"] == state)
        if found:
            correct(self.house.pipeline(), Wanted(Correction(kind, (self.dice.choice(found),), "a test", "ops")))

    def maintenance(self) -> None:
        maintain(self.house.config)

    def foreign_delete(self) -> None:
        DeltaTable(self.house.table_path("target")).delete(f"tracking_num = '{self.dice.choice(SOME_KEYS)}'")

    def foreign_update(self) -> None:
        key = self.dice.choice(SOME_KEYS)
        found = DeltaTable(self.house.table_path("target"))
        found.update(updates={"address": "'foreign'"}, predicate=f"tracking_num = '{key}'")

    def rebuilding(self) -> None:
        rebuild(self.house.config)

    def migration(self) -> None:
        """What lies in `_rescued` becomes a column of the contract; afterwards the ranks are turned round each time."""
        contract = self.house.config.contract
        if "note" not in contract.names:
            contract = replace(contract, columns=(*contract.columns, Column("note", "string")))
            never = tuple(replace(one, absent=("note",)) for one in self.house.config.vendors)
            self.house.turn(contract=contract, vendors=never)
        else:
            self.house.turn(contract=replace(contract, status_rank=contract.status_rank[::-1]))
        rebuild(self.house.config)  # what others wrote would stop it
        migrate(self.house.config, apply=True)

    def step(self) -> None:
        often: list[Callable[[], None]] = [self.batch] * 8
        rare = [
            self.correction, self.correction, self.maintenance, self.foreign_delete, self.foreign_update,
            self.rebuilding, self.migration,
        ]  # fmt: skip
        self.dice.choice([*often, *rare])()


@pytest.mark.series
@pytest.mark.parametrize(("mode", "vectors"), MODES)
def test_the_feed_replayed_is_the_target(tmp_path: Path, mode: str, vectors: bool) -> None:
    """Every version of one pipeline that lives through everything, by each reader."""
    house = open_house(tmp_path, f'change_feed = "{mode}"\n', deletion_vectors=vectors)
    house.turn(maintenance=replace(house.config.maintenance, **DEBT))
    life = Life(house, random.Random(f"{mode} {vectors}"))
    life.batch()
    for _ in range(STEPS):
        life.step()
    life.rebuilding()
    found = check_feed(house, by_delta_rs)
    assert sum(map(len, found.values())) > 2 * STEPS
    assert verify(house.config).ok
    check_readers(house)
    if importlib.util.find_spec("polars_deltalake") is not None:
        check_feed(house, by_polars)
