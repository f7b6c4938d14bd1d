"""Mode `append` on every way: what the target keeps, and the latest state beside it."""

from __future__ import annotations

from collections import Counter

import pytest
from deltalake import DeltaTable
from msgspec.structs import replace

from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind, RunReport
from tests.contract.conftest import MakeHouse
from tests.feeds import Layout, cells, csv_bytes, dated
from tests.harness import House, bag, columns_of
from tests.spark.engines import Crash, crash_at
from tests.spark.session import Spark

TOML = """mode = "append"
[[vendors]]
name = "blue"
files = "blue/*.csv"
absent = ["address"]
[[vendors]]
name = "acme"
"""
NO_ADDRESS = Layout(order=(0, 1, 2, 3, 4, 6))
MORNING, NOON, NEXT = "2026-11-20 08:00:00", "2026-11-20 12:00:00", "2026-11-21 08:00:00"

pytestmark = [
    # Without rows that change, a target in vectors and one in copies are written alike.
    pytest.mark.spared("copies", covered_by="vectors"),
    pytest.mark.spared("executors", covered_by="tests/spark/test_append.py::test_the_engines_append_the_same_rows"),
]


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    return make_house(TOML)


def kept(house: House) -> Counter[tuple[object, ...]]:
    """The rows of the target: number, status, address, and the file that they are from."""
    names = ("tracking_num", "status", "address", "_file_name")
    return Counter(tuple(row[name] for name in names) for row in house.rows("target"))


def latest(house: House) -> dict[object, tuple[object, object]]:
    return {row["tracking_num"]: (row["status"], row["address"]) for row in house.target().values()}


def verify_says(house: House) -> list[str]:
    """What `verify` finds, in the folders of the tables."""
    return [check.name for check in verify(replace(house.config, engine="embedded")).checks if not check.ok]


def mend(house: House, kind: CorrectionKind, name: str) -> RunReport:
    one = str(house.delivery(name)["delivery_id"])
    return correct(house.pipeline(), Wanted(Correction(kind, (one,), "a test", "ops")))


FIRST = {
    dated(20): csv_bytes([cells("A", NOON), cells("A", NOON), cells("B", MORNING, address="Y")]),
    dated(21): csv_bytes(
        [cells("A", MORNING, "LOST"), cells("A", NOON, address="Z"), cells("B", MORNING, address="Y")]
    ),
}
SECOND = {
    f"blue/{dated(22)}": csv_bytes([cells("B", NEXT, "DELIVERED"), cells("C", NEXT)], NO_ADDRESS),
    dated(23): csv_bytes([cells("A", NOON)]),  # a row that is there already, and now it wins
}
ROWS = Counter(
    {
        ("A", "IN_TRANSIT", "X", dated(20)): 1,
        ("B", "IN_TRANSIT", "Y", dated(20)): 1,
        ("A", "LOST", "X", dated(21)): 1,
        ("A", "IN_TRANSIT", "Z", dated(21)): 1,
        ("B", "DELIVERED", None, dated(22)): 1,
        ("C", "IN_TRANSIT", None, dated(22)): 1,
    }
)
LATEST = {"A": ("IN_TRANSIT", "X"), "B": ("DELIVERED", "Y"), "C": ("IN_TRANSIT", None)}


def filled(house: House) -> tuple[RunReport, RunReport]:
    """Late, repeated and tying rows, and a vendor without address, in two batches; the second pass is killed."""
    for name, content in FIRST.items():
        house.drop(name, content)
    first = house.run()
    for name, content in SECOND.items():
        house.drop(name, content)
    with pytest.raises(Crash):
        house.run(crash_at("load.committed"))
    return first, house.run()


def test_each_row_is_kept_and_the_latest_state_is_a_view(
    house: House, way: str, request: pytest.FixtureRequest
) -> None:
    first, second = filled(house)
    assert (first.rows.inserted, first.rows.duplicate) == (4, 2)
    assert second.recovered
    assert (second.rows.inserted, second.rows.duplicate) == (2, 1)
    assert kept(house) == ROWS
    assert latest(house) == LATEST
    properties = DeltaTable(house.table_path("target")).metadata().configuration
    assert properties["delta.appendOnly"] == "true"
    assert verify_says(house) == []
    if way == "named":
        spark: Spark = request.getfixturevalue("spark")
        found = spark.select(f"SELECT * FROM {house.config.schema}.{house.config.current}")
        columns = [column.name for column in columns_of(house, "target")]
        assert bag([{name: row[name] for name in columns} for row in found]) == bag(house.current())


@pytest.mark.spared("spark", covered_by="named")  # here rows of the history are fetched as well
def test_corrections_append_what_is_missing_and_take_nothing_out(house: House) -> None:
    filled(house)
    undone = mend(house, CorrectionKind.UNDO, dated(20)).correction
    assert undone is not None
    assert (undone.touched, undone.restored, undone.kept, undone.removed) == (2, 2, 0, 0)
    # Two rows of it other files have said as well: they stand there once more, from files that count.
    again = Counter({("B", "IN_TRANSIT", "Y", dated(21)): 1, ("A", "IN_TRANSIT", "X", dated(23)): 1})
    assert kept(house) == ROWS + again
    assert latest(house) == LATEST
    replayed = mend(house, CorrectionKind.REPLAY, dated(22))
    assert (replayed.rows.inserted, replayed.rows.duplicate) == (2, 0)
    mend(house, CorrectionKind.UNDO, dated(23))
    assert latest(house) == {**LATEST, "A": ("IN_TRANSIT", "Z")}
    mend(house, CorrectionKind.REDO, dated(20))
    assert latest(house) == {**LATEST, "A": ("IN_TRANSIT", "Z")}
    blue = Counter({("B", "DELIVERED", None, dated(22)): 1, ("C", "IN_TRANSIT", None, dated(22)): 1})
    assert kept(house) == ROWS + again + blue
    assert verify_says(house) == []
