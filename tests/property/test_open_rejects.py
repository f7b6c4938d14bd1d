"""Any contract and any profile: a rejected row is open until a file that corrects it has come, and can be sent back.

Which shipment it is about, and of when, is read once more in its raw record, as its vendor writes rows.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from ordertrail.look.rows import Row
from ordertrail.look.status import Reader
from ordertrail.look.vendor_file import LINE, PROBLEM, vendor_file
from ordertrail.model import Vendor
from tests.harness import House, open_house, without_fsync
from tests.typed_files import TypedFile, typed_file

pytestmark = [pytest.mark.property, pytest.mark.slow, pytest.mark.series]

REJECTED = int(os.environ.get("REJECTED", "16"))


def spoilt(file: TypedFile, random: Random) -> tuple[TypedFile, set[int]]:
    """The file with cells that cannot be read, and the numbers of their rows."""
    typed = [i for i, name in enumerate(file.header) if types_of(file).get(name, "string") != "string"]
    rows, spoilt_rows = [], set()
    for number, row in enumerate(file.rows, start=1):
        cells = list(row)
        if typed and random.random() < 0.5:
            cells[random.choice(typed)] = "?!"
            spoilt_rows.add(2 * number - 1 if file.vendor.continuation_lines else number)
        rows.append(tuple(cells))
    return replace(file, rows=tuple(rows)), spoilt_rows


def types_of(file: TypedFile) -> dict[str, str]:
    """The types of the columns that are one cell, but for the event time."""
    return {kind.column.name: kind.column.type for kind in file.kinds if kind.parts == 1 and kind.column.name != "e"}


def open_rows(house: House) -> list[object]:
    with Reader(house.config) as reader:
        return [row["file_row"] for row in reader.open_rejects().dicts()]


def house_of(root: Path, file: TypedFile, vendor: Vendor) -> House:
    contract = replace(file.contract, max_future_s=10**10)
    vendors = (replace(vendor, files="*.csv"),)
    return open_house(root, contract=contract, vendors=vendors, max_reject_share=1.0, min_rejects=10**6)


def rejects(house: House) -> list[Row]:
    with Reader(house.config) as reader:
        return sorted(reader.rejects().dicts(), key=lambda row: (row["file_row"], row["column"]))


@pytest.mark.parametrize("seed", range(REJECTED))
def test_a_reject_is_open_until_it_is_corrected(tmp_path: Path, seed: int) -> None:
    random = Random(1000 + seed)
    file = typed_file(random, random.randint(1, 20))
    bad, rows = spoilt(file, random)
    house = house_of(tmp_path, file, file.vendor)
    with without_fsync():
        house.drop("bad_HAM_2026.csv", bad.content())
        report = house.run()
        assert [(one.rows.parsed, one.rows.rejected) for one in report.deliveries] == [(len(file.rows), len(rows))]
        assert open_rows(house) == sorted(rows), file.vendor
        house.drop("good_HAM_2026.csv", file.content())
        house.run()
    assert open_rows(house) == [], file.vendor


@pytest.mark.parametrize("seed", range(REJECTED))
def test_rejects_that_are_sent_back_are_rejected_for_the_same_reasons(tmp_path: Path, seed: int) -> None:
    """The vendor's form keeps each cell as it was, but for the apostrophes before what a spreadsheet would run."""
    random = Random(2000 + seed)
    file = typed_file(random, random.randint(1, 20))
    bad, rows = spoilt(file, random)
    vendor = file.vendor
    if not rows or vendor.widths:  # nothing to send back; no room for the reasons
        return
    house = house_of(tmp_path / "first", file, vendor)
    packed = random.choice(("", "gzip", "zip"))
    columns = () if vendor.header else (*vendor.columns, LINE, PROBLEM)
    plain = replace(vendor, skip_lines=0, trailer=None, continuation_lines=False, columns=columns)
    again = house_of(tmp_path / "again", file, plain)
    with without_fsync():
        house.drop("bad_HAM_2026.csv", bad.content(line_end=random.choice(("\n", "\r\n")), packed=packed))
        house.run()
        found = rejects(house)
        again.drop("back_HAM_2026.csv", vendor_file(house.config, house.delivery("bad_HAM_2026.csv"), found))
        again.run()
    said = [[(row["column"], row["rule"], row["value"]) for row in some] for some in (found, rejects(again))]
    assert said[0] == said[1], vendor
