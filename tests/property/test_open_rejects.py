"""Any contract and any profile: a rejected row is open until a file that corrects it has come.

Which shipment it is about, and of when, is read once more in its raw record, as its vendor writes rows.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from ordertrail.look.status import Reader
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


@pytest.mark.parametrize("seed", range(REJECTED))
def test_a_reject_is_open_until_it_is_corrected(tmp_path: Path, seed: int) -> None:
    random = Random(1000 + seed)
    file = typed_file(random, random.randint(1, 20))
    bad, rows = spoilt(file, random)
    house = open_house(
        tmp_path,
        contract=replace(file.contract, max_future_s=10**10),
        vendors=(replace(file.vendor, files="*.csv"),),
        max_reject_share=1.0,
        min_rejects=10**6,
    )
    with without_fsync():
        house.drop("bad_HAM_2026.csv", bad.content())
        report = house.run()
        assert [(one.rows.parsed, one.rows.rejected) for one in report.deliveries] == [(len(file.rows), len(rows))]
        assert open_rows(house) == sorted(rows), file.vendor
        house.drop("good_HAM_2026.csv", file.content())
        house.run()
    assert open_rows(house) == [], file.vendor
