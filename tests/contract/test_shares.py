"""Files that are held because of their keys, on every way: each is judged as if it had come alone."""

from __future__ import annotations

import pytest

from tests.contract.conftest import MakeHouse
from tests.feeds import cells, csv_bytes
from tests.key_shares import EVENING, MORNING, NOON, TOML, rows


@pytest.mark.spared("spark", covered_by="vectors")  # there a small batch is staged as on the embedded engine
def test_each_file_of_a_batch_is_judged_by_those_before_it(make_house: MakeHouse) -> None:
    house = make_house(TOML)
    house.drop("acme/d_2026_11_20.csv", csv_bytes(rows("A", range(40), NOON)))
    house.run()  # nothing is judged while the vendor begins

    other = csv_bytes([*rows("X", range(25), MORNING), *rows("A", range(5), NOON)])
    files = {
        # Of 30 keys 25 are new; the same bytes again are the same wrong file.
        "acme/other_2026_11_21.csv": (other, "held"),
        "acme/again_2026_11_21.csv": (other, "held"),
        # Keys of files that are held are not there: 20 of 40 are new, which is not above a half. The rows of a key that
        # are older than its newest one are not stale, whatever the target holds.
        "acme/half_2026_11_22.csv": (
            csv_bytes([*rows("X", range(20), NOON), *rows("A", range(20), MORNING), *rows("A", range(20), EVENING)]),
            "loaded",
        ),
        # Another vendor's keys, of a file before this one in the batch, are known.
        "blue/d_2026_11_23.csv": (csv_bytes(rows("B", range(30), MORNING)), "loaded"),
        "acme/known_2026_11_24.csv": (csv_bytes([*rows("B", range(30), NOON), cells("C1", NOON)]), "loaded"),
        # 20 of 40 keys are older than what a file before this one brings, although the target is not newer yet.
        "acme/old_2026_11_25.csv": (csv_bytes(rows("A", range(40), NOON)), "held"),
        "acme/few_2026_11_26.csv": (csv_bytes(rows("E", range(19), NOON)), "loaded"),
        "acme/bad_2026_11_26.csv": (
            csv_bytes([*rows("F", range(20), "never"), *rows("A", range(20), MORNING)]),
            "quarantined",
        ),
    }
    for name, (content, _) in files.items():
        house.drop(name, content)
    report = house.run()
    assert {one.file_name: str(one.state) for one in report.deliveries} == {
        name.rpartition("/")[2]: state for name, (_, state) in files.items()
    }
    assert report.needs_person
    wrong = house.delivery("other_2026_11_21.csv")
    assert (wrong["rows_parsed"], wrong["rows_rejected"]) == (30, 30)
    said = "25 of its 30 keys are new to the target, a share of 0.833; max_new_share allows 0.5; ask the vendor"
    assert str(wrong["reason"]).startswith(said)
    assert str(wrong["reason"]).endswith(f"ordertrail refuse {wrong['delivery_id']} to leave it out")
    found = {(one["file_name"], one["rule"], one["file_row"]) for one in house.rows("rejects") if not one["raw"]}
    assert found == {
        ("other_2026_11_21.csv", "max_new_share", None),
        ("again_2026_11_21.csv", "max_new_share", None),
        ("old_2026_11_25.csv", "max_stale_share", None),
    }
    numbers = [("A", 40), ("X", 20), ("B", 30), ("E", 19)]
    assert set(house.target()) == {(f"{keys}{n}",) for keys, count in numbers for n in range(count)} | {("C1",)}
