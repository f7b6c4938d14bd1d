"""What batches changed is told alike, whoever wrote the history that it is replayed from."""

from __future__ import annotations

from typing import Any

import pytest

from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House


def replayed(house: House, first: int | None = None) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """The changes in short, and the statuses and addresses that they add up to."""
    found, rows = [], {}
    for one in house.pipeline().changes(first).to_arrow().to_pylist():
        key = one["tracking_num"]
        found.append((one["_batch"], one["_change"], key, one["_file_name"], one["_file_row"], one["_outcome"]))
        if one["_change"] == "delete":
            del rows[key]
        else:
            rows[key] = (one["after_status"], one["after_address"])
    return found, rows


@pytest.mark.spared("copies", "spark", covered_by="vectors")  # the history is written by the same code
@pytest.mark.spared("named", covered_by="executors")  # it reads files, which are elsewhere there: E_USAGE
def test_changes_of_files_and_of_a_correction(house: House) -> None:
    """New, newer, older and equal rows, a tie, a row twice in a file; and a file that is taken back."""
    first, second = dated(20), dated(21)
    early, late = "2026-11-20 08:00:00", "2026-11-21 08:00:00"
    house.drop(
        first, csv_bytes([cells("A", early), cells("T", early, address="X"), cells("S", late), cells("E", early)])
    )
    house.run()
    rows = [
        cells("A", early, "DELIVERED"),
        cells("A", late, "DELIVERED"),
        cells("N", late),
        cells("T", early, address="Y"),
        cells("S", early, "LOST"),
        cells("E", early),
    ]
    house.drop(second, csv_bytes(rows))
    house.run()
    of = (str(house.delivery(second)["delivery_id"]),)
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, of, "a test", "ops")))
    found, shipments = replayed(house)
    assert found == [
        (1, "insert", "A", first, 1, "inserted"),
        (1, "insert", "E", first, 4, "inserted"),
        (1, "insert", "S", first, 3, "inserted"),
        (1, "insert", "T", first, 2, "inserted"),
        (2, "update", "A", second, 2, "updated"),
        (2, "insert", "N", second, 3, "inserted"),
        (2, "update", "T", second, 4, "updated"),
        (3, "update", "A", first, 1, "updated"),
        (3, "delete", "N", None, None, "removed"),
        (3, "update", "T", first, 2, "updated"),
    ]
    assert shipments == {str(key[0]): (row["status"], row["address"]) for key, row in house.target().items()}
