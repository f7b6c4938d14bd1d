"""The contract and the tables part ways: what is added by itself, what is refused, and that readers read on (P9)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from ordertrail.errors import ConfigError
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.plan import plan_files
from ordertrail.look.status import Reader
from ordertrail.look.verify import verify
from ordertrail.mend.migration import migrate
from ordertrail.model import Column
from ordertrail.rules.schema import MIGRATE
from tests.contract.conftest import MakeHouse
from tests.contract.spared import BROUGHT
from tests.feeds import HEADER, TIMES, cells, csv_bytes, dated
from tests.harness import House, check_readers

TABLES = ("stage", "target", "history", "rejects", "deliveries")
EARLY, LATE = TIMES[0], TIMES[3]


def weighed_csv(*rows: tuple[str, ...]) -> str:
    """A file with one more column than the feed's."""
    return "".join(",".join(line) + "\n" for line in ((*HEADER, "weight"), *rows))


def turn_columns(house: House, *columns: Column) -> None:
    """Give the contract other columns, as somebody does who edits the config."""
    house.turn(contract=replace(house.config.contract, columns=columns))


def with_weight(house: House) -> None:
    """Add a nullable column to the contract."""
    turn_columns(house, *house.config.contract.columns, Column("weight", "decimal(9,3)"))


def weights(house: House) -> dict[str, str | None]:
    found = ((str(key), row["weight"]) for (key,), row in house.target().items())
    return {key: None if weight is None else str(weight) for key, weight in found}


@pytest.mark.spared("executors", "named", covered_by=BROUGHT)
def test_an_added_column_is_null_in_old_rows(make_house: MakeHouse) -> None:
    """One metadata commit a table, before anything else is written; rows that are there keep all their values."""
    house = make_house("")
    house.drop(dated(20), csv_bytes([cells("A", EARLY), cells("B", EARLY), cells("C", EARLY)]))
    house.run()
    before = {key: {**row, "weight": None} for key, row in house.target().items()}
    with_weight(house)
    if house.config.in_folders:
        assert verify(house.config).ok, "tables that are not brought up to date yet"
        with Reader(house.config) as reader:
            assert {row["weight"] for row in reader.query("SELECT weight FROM orders_history").dicts()} == {None}
    house.run()
    assert house.target() == before
    check_readers(house)
    house.drop(dated(21), weighed_csv((*cells("A", LATE), "1.5"), (*cells("D", LATE), "2")))
    house.run()
    assert weights(house) == {"A": "1.500", "B": None, "C": None, "D": "2.000"}
    # An old file comes late, by a vendor that does not know the column: it is quarantined, unless it is `absent`.
    house.turn(vendors=tuple(replace(vendor, absent=("weight",)) for vendor in house.config.vendors))
    house.drop(dated(22), csv_bytes([cells("A", "2026-11-22 08:00:00", "DELIVERED"), cells("E", LATE)]))
    house.run()
    assert weights(house) == {"A": "1.500", "B": None, "C": None, "D": "2.000", "E": None}
    if house.config.in_folders:
        assert verify(house.config).ok
        altered = [
            [v for v in range(house.version(t) + 1) if any("metaData" in a for a in house.actions(t, v))]
            for t in ("stage", "target", "history", "rejects", "deliveries")
        ]
        assert altered[:3] == [[0, 2]] * 3
        assert altered[3:] == [[0], [0]]


NUMBER_CSV = (
    "order_num,tracking_num,status,weight,last_update_timestamp\n"
    "O1,A,IN_TRANSIT,0013,2026-11-20 08:00:00\nO2,B,IN_TRANSIT,0014,2026-11-20 08:00:00\n"
)
PLAIN = (
    Column("order_num", "string"),
    Column("tracking_num", "string", required=True),
    Column("status", "string"),
    Column("weight", "string"),
    Column("last_update_timestamp", "timestamp", required=True),
)


def weight_of(kind: str, *, required: bool = False) -> tuple[Column, ...]:
    return tuple(replace(c, type=kind, required=required) if c.name == "weight" else c for c in PLAIN)


@pytest.mark.spared("executors", covered_by="spark")
@pytest.mark.spared("named", covered_by="::test_a_column_taken_out_or_required_later_is_refused_and_the_hint_works")
def test_a_changed_type_is_refused_everywhere_and_the_hint_works(make_house: MakeHouse) -> None:
    """P5: `0013` stays `0013`, whoever is asked; nothing is written, and the old line brings all back."""
    house = make_house("")
    turn_columns(house, *PLAIN)
    house.drop(dated(20), NUMBER_CSV)
    house.run()
    waiting = house.drop(dated(21), NUMBER_CSV.replace("0013", "12 kg"))
    versions = {table: house.version(table) for table in TABLES}
    turn_columns(house, *weight_of("bigint"))
    asked: list[Callable[[], object]] = [house.run]
    if house.config.in_folders:
        asked += [
            lambda: rebuild(house.config),
            lambda: rebuild(house.config, dry_run=True),
            lambda: plan_files(house.config, [waiting]),
        ]
    for ask in asked:
        with pytest.raises(ConfigError) as caught:
            ask()
        assert caught.value.message == "the contract says that weight is bigint, but in the tables it is string"
        assert caught.value.hint == f'{MIGRATE}; or put type = "string" back for weight in [contract]'
    assert {table: house.version(table) for table in TABLES} == versions
    if house.config.in_folders:
        wrong = [check for check in verify(house.config).checks if not check.ok]
        assert "weight is bigint" in wrong[0].detail
    turn_columns(house, *PLAIN)
    house.run()
    assert weights(house) == {"A": "12 kg", "B": "0014"}


@pytest.mark.spared("executors", covered_by="spark")
def test_a_column_taken_out_or_required_later_is_refused_and_the_hint_works(make_house: MakeHouse) -> None:
    house = make_house("")
    turn_columns(house, *PLAIN)
    house.drop(dated(20), NUMBER_CSV.replace("0014", ""))
    house.run()
    turn_columns(house, *(column for column in PLAIN if column.name != "weight"))
    with pytest.raises(ConfigError, match="no longer has the column weight, but the tables do"):
        house.run()
    turn_columns(house, *weight_of("string", required=True))
    with pytest.raises(ConfigError, match="weight is required, but it is NULL in rows of the tables"):
        house.run()
    turn_columns(house, *PLAIN)
    house.drop(dated(21), NUMBER_CSV.replace("08:00", "09:00"))
    house.run()
    assert weights(house) == {"A": "0013", "B": "0014"}


@pytest.mark.spared("executors", covered_by="spark")
def test_a_migration_between_passes(make_house: MakeHouse) -> None:
    """A column is filled from `_rescued` and one gets another type, wherever the tables are."""
    house = make_house("")
    house.drop(dated(20), weighed_csv((*cells("A", EARLY), "1.5"), (*cells("B", EARLY), "2")))
    house.run()
    columns = (replace(c, type="string") if c.name == "pck_recieved_date" else c for c in house.config.contract.columns)
    turn_columns(house, *columns, Column("weight", "decimal(9,3)"))
    with pytest.raises(ConfigError, match="pck_recieved_date is string, but in the tables it is date"):
        house.run()
    assert migrate(house.config, apply=True).batch == 2
    assert weights(house) == {"A": "1.500", "B": "2.000"}
    house.drop(dated(21), weighed_csv((*cells("A", LATE), "3"), (*cells("C", LATE), "4")))
    house.run()
    assert weights(house) == {"A": "3.000", "B": "2.000", "C": "4.000"}
    assert {row["pck_recieved_date"] for row in house.rows("target")} == {"2026-11-19"}
    if house.config.in_folders:
        assert verify(house.config).ok
