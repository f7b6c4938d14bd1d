"""Any contract and any profile: what a file's cells mean is the same after a migration as in a load under its contract.

Columns are new under the contract that the migration brings, or were text before it: so their values are read from
`_rescued`, from what the profile tells, or from the text that the old contract took.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from ordertrail.look.verify import verify
from ordertrail.mend.migration import migrate
from ordertrail.model import Contract, Vendor
from tests.harness import House, open_house, without_fsync
from tests.typed_files import NAME, TypedFile, typed_file

pytestmark = [pytest.mark.property, pytest.mark.slow, pytest.mark.series]

MIGRATED = int(os.environ.get("MIGRATED", "24"))


def contract_before(file: TypedFile, random: Random) -> Contract:
    """The contract without some of its columns, and with others as text."""
    kept = []
    for kind in file.kinds:
        chance = 1.0 if kind.column.name in ("k", "e", "s") else random.random()
        if chance > 0.7:
            kept.append(kind.column)
        elif chance > 0.5 and kind.parts:
            kept.append(replace(kind.column, type="string", formats=()))
    return replace(file.contract, columns=tuple(kept))


def told_of(vendor: Vendor, contract: Contract) -> Vendor:
    """The profile with what it says of columns of the contract: a config may say no more."""
    names = contract.names
    groups = () if vendor.from_name is None else re.compile(vendor.from_name).groupindex
    return replace(
        vendor,
        files="*.csv",
        combine=tuple(one for one in vendor.combine if one[0] in names),
        constants=tuple(one for one in vendor.constants if one[0] in names),
        formats=tuple(one for one in vendor.formats if one[0] in names),
        absent=tuple(name for name in vendor.absent if name in names),
        from_name=vendor.from_name if all(name in names for name in groups) else None,
    )


def house_of(root: Path, file: TypedFile, contract: Contract) -> House:
    """A pipeline that has loaded the file under a contract."""
    house = open_house(root, contract=replace(contract, max_future_s=10**10), vendors=(told_of(file.vendor, contract),))
    house.drop(NAME, file.content())
    report = house.run()
    assert [(one.rows.parsed, one.rows.rejected) for one in report.deliveries] == [(len(file.values), 0)], report
    return house


def rows_of(house: House, table: str) -> list[tuple[object, ...]]:
    """The rows of a table in the order of the file."""
    names = (*house.config.contract.names, "_rescued", "_row_hash", "_file_row")
    rows = sorted(house.rows(table), key=lambda row: int(str(row["_file_row"])))
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("seed", range(1, MIGRATED + 1))
def test_cells_mean_the_same_after_a_migration(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    file = typed_file(random, random.randint(1, 20), header=True)
    before = contract_before(file, random)
    with without_fsync():
        fresh = house_of(tmp_path / "fresh", file, file.contract)
        house = house_of(tmp_path / "migrated", file, before)
        house.turn(contract=fresh.config.contract, vendors=fresh.config.vendors)
        migrate(house.config, apply=True)
    for table in ("history", "target"):
        assert rows_of(house, table) == rows_of(fresh, table), (before.columns, file.contract.columns, file.vendor)
    proof = verify(house.config)
    assert proof.ok, [check for check in proof.checks if not check.ok]
