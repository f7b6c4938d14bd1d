"""Rows by their place, of files that do not all have the same columns."""

from __future__ import annotations

import pytest

from ordertrail.look.places import places, rows_at
from ordertrail.look.status import Reader
from tests.harness import House, open_house, without_fsync

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp"
ADD = '[contract]\nunknown_columns = "add"\n'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two files; only the second one has a column `weight`. A shipment of the first is updated. Only to read."""
    house = open_house(tmp_path_factory.mktemp("places"), ADD)
    with without_fsync():
        house.drop("a_2026_11_20.csv", f"{HEADER}\n" + "".join(f"O,1Z{i},,,NEW,x,2026-11-20 08:00:00\n" for i in "123"))
        house.run()
        house.drop(
            "b_2026_11_21.csv",
            f"{HEADER},weight\n" + "".join(f"O,1Z{i},,,OLD,x,2026-11-21 08:00:00,{i}\n" for i in "34"),
        )
        house.run()
    return house


def test_rows_come_in_the_order_asked_for_and_columns_that_a_file_lacks_are_null(house: House) -> None:
    with Reader(house.config) as reader:
        look = reader.quick()
        there = places(look, "target", ("tracking_num",), "true", "tracking_num DESC")
        assert len(there) == 4  # the row before the update is marked in a vector
        rows = rows_at(look, "target", ("tracking_num", "weight"), there)
        assert rows.columns == ("tracking_num", "weight")
        assert rows.rows == (("1Z4", "4"), ("1Z3", "3"), ("1Z2", None), ("1Z1", None))
        assert rows_at(look, "target", ("weight", "tracking_num"), there[2:3]).rows == ((None, "1Z2"),)
        two = rows_at(look, "target", ("tracking_num",), there[1:3])  # the first of one file, the second of the other
        assert two.rows == (("1Z3",), ("1Z2",))
        some = places(look, "target", ("tracking_num", "status"), "status = 'NEW'", "tracking_num", 1)
        assert rows_at(look, "target", ("tracking_num",), some).rows == (("1Z1",),)
        assert rows_at(look, "target", ("status",), ()).rows == ()
