"""The name of all that decides how a file's bytes become rows: the contract and the vendor's profile.

`orders_deliveries` keeps it for good. A file that is sent again is a `duplicate` only while it has the name that it was
loaded under, whichever release loaded it. So the name is made of what the config says alone: a setting that has its
default is left out.

To add a setting: a field with a default in `Contract`, `Column` or `Vendor`. No name changes, and nothing is to be done
here; only a field that changes no row (such as the glob, which decides who takes a file) goes into `_ASIDE`. A default,
once released, stays what it is: with another one the same name would mean other rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields

from ordertrail.model import Column, Contract, Vendor

_ASIDE = frozenset({"files"})
"""Fields of `Vendor` that change no row."""

_FIRST_CONTRACT = ("columns", "key", "order_by", "status", "status_rank", "unknown_columns", "max_future_s")
_FIRST_COLUMN = ("name", "type", "required", "formats", "identifier", "pattern", "min", "max", "allowed")
_FIRST_VENDOR = (
    "name", "delimiter", "quote", "encoding", "timezone", "aliases", "status_map", "absent", "formats", "file_date",
)  # fmt: skip
"""Fields that the first release hashed, all of them, also with their defaults. No name is ever added to these."""


def contract_hash(contract: Contract, vendor: Vendor) -> str:
    """The name of a contract and a vendor's profile, hexadecimal."""
    return _hashed([_said(contract), {name: value for name, value in _said(vendor).items() if name not in _ASIDE}])


def contract_hashes(contract: Contract, vendor: Vendor) -> tuple[str, ...]:
    """All names that a contract and a vendor's profile have had: today's, then those that older releases gave."""
    older = _first_release(contract, vendor)
    return (contract_hash(contract, vendor), *(() if older is None else (older,)))


def _said(value: Contract | Column | Vendor) -> dict[str, object]:
    """What the config says: fields without a default, and those that differ from theirs."""
    found: dict[str, object] = {}
    for field in fields(value):
        given = getattr(value, field.name)
        if given != field.default:
            found[field.name] = [_said(one) for one in given] if field.name == "columns" else given
    return found


def _first_release(contract: Contract, vendor: Vendor) -> str | None:
    """The first release's name; None where the config says what that release did not know."""
    said = {*_said(contract)} - {*_FIRST_CONTRACT}, {*_said(vendor)} - {*_FIRST_VENDOR, *_ASIDE}
    if any(said) or any({*_said(column)} - {*_FIRST_COLUMN} for column in contract.columns):
        return None
    columns = [_taken(column, _FIRST_COLUMN) for column in contract.columns]
    return _hashed(
        [_taken(contract, _FIRST_CONTRACT) | {"columns": columns}, _taken(vendor, _FIRST_VENDOR) | {"files": ""}]
    )


def _taken(value: Contract | Column | Vendor, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(value, name) for name in names}


def _hashed(body: object) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
