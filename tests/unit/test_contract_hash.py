"""The name of a contract and a vendor's profile: what changes it, and what must not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import defstruct
from msgspec.structs import fields, replace

from ordertrail.model import Column, Contract, Vendor
from ordertrail.rules.contract_hash import contract_hash, contract_hashes
from tests.oracle import default_contract

ACME = Vendor("acme")
OLD_NAME = "67cf452b07c46aba9cb1b84320cda1ed"
NAME = "9618ca758213871c77b9bf59ccd6816d"
"""Of the order feed's own contract and `ACME`: as the first release made it, and as it is made now."""


def test_names_stay_what_they_were() -> None:
    assert contract_hashes(default_contract(), ACME) == (NAME, OLD_NAME)


def test_the_name_covers_all_that_makes_rows_of_bytes() -> None:
    contract = default_contract()
    base = contract_hash(contract, ACME)
    assert base == contract_hash(default_contract(), Vendor("acme"))
    assert base == contract_hash(contract, replace(ACME, files="other/*.csv"))
    changed = [
        contract_hashes(contract, vendor)
        for vendor in (
            replace(ACME, delimiter=";"), replace(ACME, quote="'"), replace(ACME, encoding="cp1252"),
            replace(ACME, timezone="Europe/Berlin"),
            replace(ACME, aliases=(("status", ("s",)),)), replace(ACME, status_map=(("a", "b"),)),
            replace(ACME, absent=("status",)),
            replace(ACME, formats=(("pck_recieved_date", ("%d",)),)), replace(ACME, name="blue"),
            replace(ACME, file_date="%Y"),
        )
    ]  # fmt: skip
    changed += [
        contract_hashes(replace(contract, **change), ACME)
        for change in (
            {"columns": contract.columns[::-1]}, {"key": ("order_num",)}, {"status": None}, {"status_rank": ("X",)},
            {"unknown_columns": "strict"}, {"max_future_s": 1},
            {"columns": (*contract.columns[:-1], replace(contract.columns[-1], pattern="X"))},
        )
    ]  # fmt: skip
    assert len({base, *(name for names in changed for name in names)}) == len(changed) * 2 + 1


@pytest.mark.parametrize("grown", [Contract, Column, Vendor])
def test_a_new_setting_with_its_default_changes_no_name_and_with_another_value_both(grown: type[Any]) -> None:
    """A release that knows one setting more: every value has it."""
    more = defstruct(grown.__name__, [("new", str, "as before")], bases=(grown,), frozen=True)

    def known(value: Any, **said: str) -> Any:
        return more(**{one.name: getattr(value, one.name) for one in fields(grown)}, **said)

    def named(**said: str) -> tuple[str, ...]:
        contract, vendor = default_contract(), ACME
        if grown is Vendor:
            vendor = known(vendor, **said)
        elif grown is Contract:
            contract = known(contract, **said)
        else:
            contract = replace(contract, columns=tuple(known(column, **said) for column in contract.columns))
        return contract_hashes(contract, vendor)

    assert named() == named(new="as before") == (NAME, OLD_NAME)
    # The first release knew no such setting: nothing that it loaded was read like this.
    (other,) = named(new="otherwise")
    assert other not in (NAME, OLD_NAME)
