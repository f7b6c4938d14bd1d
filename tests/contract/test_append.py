"""Mode `append` on every way: what the target keeps, and the latest state beside it."""

from __future__ import annotations

from collections import Counter

import pytest

from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind, RunReport
from tests.contract.conftest import MakeHouse
from tests.feeds import Cells, Layout, cells, csv_bytes, dated
from tests.harness import House

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

pytestmark = pytest.mark.spared(
    "copies", "spark", "named", "executors", covered_by="::test_files_corrections_and_the_latest_state"
)


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    return make_house(TOML)


def load(house: House, name: str, rows: list[Cells], layout: Layout | None = None) -> RunReport:
    house.drop(name, csv_bytes(rows) if layout is None else csv_bytes(rows, layout))
    return house.run()


def kept(house: House) -> Counter[tuple[object, ...]]:
    """The rows of the target: number, status, address, and the file that they are from."""
    names = ("tracking_num", "status", "address", "_file_name")
    return Counter(tuple(row[name] for name in names) for row in house.rows("target"))


def latest(house: House) -> dict[object, tuple[object, object]]:
    return {row["tracking_num"]: (row["status"], row["address"]) for row in house.target().values()}


def mend(house: House, kind: CorrectionKind, name: str) -> RunReport:
    one = str(house.delivery(name)["delivery_id"])
    return correct(house.pipeline(), Wanted(Correction(kind, (one,), "a test", "ops")))


def test_files_corrections_and_the_latest_state(house: House) -> None:
    """Late, repeated and tying rows, a vendor without address; a file is taken back, read anew, and comes back."""
    first = load(house, dated(20), [cells("A", NOON), cells("A", NOON), cells("B", MORNING, address="Y")])
    assert (first.rows.inserted, first.rows.duplicate) == (2, 1)
    second = load(
        house, dated(21), [cells("A", MORNING, "LOST"), cells("A", NOON, address="Z"), cells("B", MORNING, address="Y")]
    )
    assert (second.rows.inserted, second.rows.duplicate) == (2, 1)
    third = load(house, f"blue/{dated(22)}", [cells("B", NEXT, "DELIVERED"), cells("C", NEXT)], NO_ADDRESS)
    assert third.rows.inserted == 2
    fourth = load(house, dated(23), [cells("A", NOON)])  # the first row again, and now it wins
    assert (fourth.rows.inserted, fourth.rows.duplicate) == (0, 1)
    files = kept(house)
    assert files == Counter(
        {
            ("A", "IN_TRANSIT", "X", dated(20)): 1,
            ("B", "IN_TRANSIT", "Y", dated(20)): 1,
            ("A", "LOST", "X", dated(21)): 1,
            ("A", "IN_TRANSIT", "Z", dated(21)): 1,
            ("B", "DELIVERED", None, dated(22)): 1,
            ("C", "IN_TRANSIT", None, dated(22)): 1,
        }
    )
    whole = {"A": ("IN_TRANSIT", "X"), "B": ("DELIVERED", "Y"), "C": ("IN_TRANSIT", None)}
    assert latest(house) == whole

    undone = mend(house, CorrectionKind.UNDO, dated(20)).correction
    assert undone is not None
    assert (undone.touched, undone.restored, undone.kept, undone.removed) == (2, 2, 0, 0)
    # Two rows of it other files have said as well: they stand there once more, from files that count.
    again = Counter({("B", "IN_TRANSIT", "Y", dated(21)): 1, ("A", "IN_TRANSIT", "X", dated(23)): 1})
    assert kept(house) == files + again
    assert latest(house) == whole
    mend(house, CorrectionKind.UNDO, f"{dated(22)}")
    assert latest(house) == {"A": ("IN_TRANSIT", "X"), "B": ("IN_TRANSIT", "Y")}
    replayed = mend(house, CorrectionKind.REPLAY, dated(22))
    assert (replayed.rows.inserted, replayed.rows.duplicate) == (2, 0)
    assert latest(house) == whole
    mend(house, CorrectionKind.REDO, dated(20))
    assert latest(house) == whole
    assert kept(house) == files + again + Counter(
        {("B", "DELIVERED", None, dated(22)): 1, ("C", "IN_TRANSIT", None, dated(22)): 1}
    )
    assert [check for check in verify(house.config).checks if not check.ok] == []
