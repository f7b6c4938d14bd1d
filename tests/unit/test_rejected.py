"""`track` finds the rejected rows of a number, and only those, by their raw records."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.look.rows import Row
from ordertrail.look.status import Reader
from tests.harness import House, open_house

HEADER = "order_num,Tracking Num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
TIME = "2026-11-20 08:00:00"
NEVER_TOO_MANY = "max_reject_share = 1.0\n"


def rejected(house: House, number: str) -> list[tuple[object, ...]]:
    with Reader(house.config) as reader:
        return [(row["file_row"], row["column"], row["value"]) for row in found(reader, number)]


def found(reader: Reader, number: str) -> tuple[Row, ...]:
    return reader.track(number).rejected


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Row 1 is 007's, row 2 names 007 as its order only, row 3 is another's, row 4 is 007's with two bad cells."""
    house = open_house(tmp_path, NEVER_TOO_MANY)
    rows = [
        f'X1,007,2026-02-30,,IN_TRANSIT,"Elm St 1, ""rear""",{TIME}\n',
        f"007,B,2026-02-30,,IN_TRANSIT,Elm St,{TIME}\n",
        f"X3,0071,2026-02-30,,IN_TRANSIT,Elm St 007,{TIME}\n",
        "X4, 007 ,never,,IN_TRANSIT,Elm St,yesterday\n",
        f"X5,C,2026-11-19,,IN_TRANSIT,Elm St,{TIME}\n",
    ]
    house.drop("order_tracking_2026_11_20.csv", HEADER + "".join(rows))
    house.run()
    return house


def test_rejected_rows_are_found_by_their_key_alone(house: House) -> None:
    assert rejected(house, "007") == [
        (1, "pck_recieved_date", "2026-02-30"),
        (4, "pck_recieved_date", "never"),
        (4, "last_update_timestamp", "yesterday"),
    ]
    assert [row for row, *_ in rejected(house, "B")] == [2]
    assert rejected(house, "C") == []
    assert rejected(house, "7") == []
    assert rejected(house, "'; DROP TABLE") == []


def test_without_the_archived_file_any_cell_counts(house: House) -> None:
    for path in house.config.archive.rglob("*.csv"):
        path.unlink()
    assert sorted({row for row, *_ in rejected(house, "007")}) == [1, 2, 4]


def test_a_record_that_is_no_row_is_found(tmp_path: Path) -> None:
    house = open_house(tmp_path, NEVER_TOO_MANY)
    house.drop("a_2026_11_20.csv", HEADER + f"X1,007,one,,too,many,{TIME},cells,here\n")
    house.run()
    ((row, column, value),) = rejected(house, "007")
    assert (row, column, value) == (1, None, None)


def test_a_key_that_was_itself_rejected_is_found_without_what_nobody_sees(tmp_path: Path) -> None:
    house = open_house(
        tmp_path,
        NEVER_TOO_MANY + '[contract]\nkey = "n"\norder_by = "at"\nstatus = ""\nstatus_rank = []\n'
        '[[contract.columns]]\nname = "n"\ntype = "bigint"\nrequired = true\n'
        '[[contract.columns]]\nname = "at"\ntype = "timestamp"\nrequired = true\n',
    )
    house.drop("a_2026_11_20.csv", f"n,at\n12\u200b,{TIME}\n0012,never\n112,never\n")
    house.run()
    assert rejected(house, "12") == [(1, "n", "12\u200b"), (2, "at", "never")]
    assert rejected(house, "012") == rejected(house, "12")


def test_a_key_of_several_columns_needs_all_its_parts(tmp_path: Path) -> None:
    house = open_house(
        tmp_path,
        NEVER_TOO_MANY + '[contract]\nkey = ["a", "b"]\norder_by = "at"\nstatus = ""\nstatus_rank = []\n'
        '[[contract.columns]]\nname = "a"\ntype = "string"\nrequired = true\n'
        '[[contract.columns]]\nname = "b"\ntype = "string"\nrequired = true\n'
        '[[contract.columns]]\nname = "at"\ntype = "timestamp"\nrequired = true\n',
    )
    house.drop("a_2026_11_20.csv", "b,a,at\n1,K,never\n2,K,never\nK,1,never\n")
    house.run()
    assert [row for row, *_ in rejected(house, "K/1")] == [1]
