"""`unknown_columns = "add"`: what a file brings becomes a column of the tables, on every engine and in every way."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from ordertrail.errors import ConfigError
from ordertrail.model import Column
from ordertrail.rules.schema import CONTRACT
from tests.contract.conftest import MakeHouse
from tests.feeds import HEADER, TIMES, cells, csv_bytes, dated
from tests.harness import House

EARLY, LATE = TIMES[0], TIMES[3]
WEIGHT = Column("weight_kg", "string", added="Weight (kg)")
ADD = '[contract]\nunknown_columns = "add"\n'


def wide_csv(extra: tuple[str, ...], *rows: tuple[str, ...]) -> str:
    """A file with more columns than the feed's."""
    return "".join(",".join(line) + "\n" for line in ((*HEADER, *extra), *rows))


def weights(house: House) -> dict[str, tuple[object, object]]:
    """`weight_kg` and `_rescued` in the target, by key."""
    return {str(row["tracking_num"]): (row["weight_kg"], row["_rescued"]) for row in house.rows("target")}


def carried(house: House) -> dict[str, dict[str, object]]:
    """The columns of the contract that the newest commit with a schema left in the history's property."""
    for version in range(house.version("history"), -1, -1):
        for action in house.actions("history", version):
            if "metaData" in action:
                found: dict[str, dict[str, object]] = json.loads(action["metaData"]["configuration"][CONTRACT])[
                    "columns"
                ]
                return found
    raise AssertionError


def test_a_column_that_a_file_brings(make_house: MakeHouse, way: str) -> None:
    """It is added before the batch is staged, read in every file from then on, and taken over by the config."""
    house = make_house(ADD)
    plain = house.config.contract
    house.drop(dated(20), csv_bytes([cells("A", EARLY), cells("B", EARLY)]))
    assert house.run().added_columns == ()
    wider = replace(plain, columns=(*plain.columns, WEIGHT))
    # A file that comes late in time fills what no later row has sent: the first one lacks the column.
    house.drop(
        dated(21),
        wide_csv(
            ("Weight (kg)", "_batch"), (*cells("A", "2026-11-19 08:00:00"), "1.5", "9"), (*cells("C", LATE), "2", "9")
        ),
    )
    report = house.run()
    assert report.added_columns == ("weight_kg",)
    assert [note for note in report.notes if "not added to the tables" in note and "'_batch'" in note]
    assert carried(house)["weight_kg"] == {"type": "string", "required": False, "added": "Weight (kg)"}
    house.turn(contract=wider)  # for the readers of this test; the pipeline finds out by itself
    assert weights(house) == {"A": ("1.5", None), "B": (None, None), "C": ("2", '{"_batch":"9"}')}
    assert json.loads(str(house.delivery(dated(20))["absent"])) == ["weight_kg"]
    assert json.loads(str(house.delivery(dated(21))["absent"])) == []
    if way == "executors":
        return  # what follows is the same for them
    # With "rescue" the column stays one, under its other spellings too, and no other is added.
    house.turn(contract=replace(plain, unknown_columns="rescue"))
    house.drop(dated(22), wide_csv(("colour", "WEIGHT KG"), (*cells("B", LATE), "red", "3")))
    house.drop(dated(23), csv_bytes([cells("C", "2026-11-22 08:00:00", "DELIVERED")]))
    assert house.run().added_columns == ()
    house.turn(contract=replace(wider, unknown_columns="rescue"))
    assert weights(house) == {"A": ("1.5", None), "B": ("3", '{"colour":"red"}'), "C": ("2", None)}
    # The config takes it over: with the same type only the mark goes.
    if house.config.in_folders:
        house.turn(contract=replace(plain, columns=(*plain.columns, Column("weight_kg", "decimal(9,3)"))))
        with pytest.raises(ConfigError, match=r"weight_kg is decimal\(9,3\), but in the tables it is string"):
            house.run()
    house.turn(contract=replace(plain, columns=(*plain.columns, Column("weight_kg", "string"))))
    house.run()
    assert carried(house)["weight_kg"] == {"type": "string", "required": False}
    assert weights(house)["A"] == ("1.5", None)
