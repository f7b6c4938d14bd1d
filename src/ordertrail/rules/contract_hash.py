"""A hash of everything that decides how a file's bytes become rows: the contract and the vendor's profile.

`orders_deliveries` keeps it. A file that is sent again is a `duplicate` only while this hash equals the one that the
file was loaded under, whichever release loaded it. So only what the config says is hashed: a setting with its default
value is left out, and so is a column that the tables got from files (`rules.added`).

To add a setting, add a field with a default to `Contract`, `Column` or `Vendor`. No hash changes, and nothing needs to
be done here, except that a field that changes no row (such as the glob, which decides who takes a file) goes into
`_ASIDE`. Never change a released default: the same hash would then mean different rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from ordertrail.model import Column, Contract, Vendor
from ordertrail.model.defaults import defaults_of

_ASIDE = frozenset({"files", "max_unpacked_mb", "manifest", "final_newline"})
"""Fields of `Vendor` that change no row."""

_FIRST_CONTRACT = ("columns", "key", "order_by", "status", "status_rank", "unknown_columns", "max_future_s")
_FIRST_COLUMN = ("name", "type", "required", "formats", "identifier", "pattern", "min", "max", "allowed")
_FIRST_VENDOR = (
    "name", "delimiter", "quote", "encoding", "timezone", "aliases", "status_map", "absent", "formats", "file_date",
)  # fmt: skip
"""Fields that the first release hashed even with their defaults. Never add a name here."""


def contract_hash(contract: Contract, vendor: Vendor) -> str:
    """The hash of a contract and a vendor's profile, hexadecimal."""
    return _hashed([_said(contract), {name: value for name, value in _said(vendor).items() if name not in _ASIDE}])


def contract_hashes(contract: Contract, vendor: Vendor) -> tuple[str, ...]:
    """All hashes of a contract and a vendor's profile: today's, then those that older releases computed."""
    older = _first_release(contract, vendor)
    return (contract_hash(contract, vendor), *(() if older is None else (older,)))


def _said(value: Contract | Column | Vendor) -> dict[str, object]:
    """The fields that the config sets: those without a default, and those that differ from their default."""
    found: dict[str, object] = {}
    defaults = defaults_of(type(value))
    for name in value.__struct_fields__:
        given = getattr(value, name)
        if name not in defaults or given != defaults[name]:
            columns = isinstance(value, Contract) and name == "columns"
            found[name] = [_said(one) for one in given if not one.added] if columns else given
    return found


def _first_release(contract: Contract, vendor: Vendor) -> str | None:
    """The first release's hash; None when the config uses a setting that release did not know."""
    said = {*_said(contract)} - {*_FIRST_CONTRACT}, {*_said(vendor)} - {*_FIRST_VENDOR, *_ASIDE}
    declared = [column for column in contract.columns if not column.added]
    if any(said) or any({*_said(column)} - {*_FIRST_COLUMN} for column in declared):
        return None
    columns = [_taken(column, _FIRST_COLUMN) for column in declared]
    return _hashed(
        [_taken(contract, _FIRST_CONTRACT) | {"columns": columns}, _taken(vendor, _FIRST_VENDOR) | {"files": ""}]
    )


def _taken(value: Contract | Column | Vendor, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(value, name) for name in names}


def _hashed(body: object) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
