"""Finds the rejected rows of one key by the key's cells in their raw records.

A rejected row has no key column in a table. The header of the archived file tells where the key is in its record; when
that file is gone, a record counts if any of its cells is the key.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from ordertrail.config import Config
from ordertrail.errors import OrdertrailError
from ordertrail.look.as_of import AsOf
from ordertrail.look.places import places, rows_at
from ordertrail.look.quick import Look
from ordertrail.look.rows import Row, rows_of
from ordertrail.model import Vendor
from ordertrail.rules.dialects import dialect_of
from ordertrail.rules.headers import map_header
from ordertrail.rules.sql import quoted
from ordertrail.rules.tables import REJECTS

_INVISIBLE = ("Cc", "Cf")
_NUMBERS = ("int", "bigint")


def rejected_rows(look: Look, parts: Sequence[str], as_of: AsOf | None = None) -> tuple[Row, ...]:
    """The rejects of a key, as `orders_rejects` has them, oldest batch first, then in file order.

    This includes rows whose key itself was rejected for invisible characters.

    Args:
        look: The tables.
        parts: The parts of the key, one for each key column, trimmed.
        as_of: As they were then; None means now.
    """
    config = look.config
    types = {column.name: column.type for column in config.contract.columns}
    wanted = [_Part(part, types[name] in _NUMBERS) for name, part in zip(config.contract.key, parts, strict=True)]
    # A coarse sieve in SQL, on the record and on the rejected cell: most rejects are other rows.
    inside = " AND ".join(f"contains(raw, {quoted(part.text)})" for part in wanted)
    keys = ", ".join(map(quoted, config.contract.key))
    visible = r"regexp_replace(value, '[\p{Cc}\p{Cf}]', '', 'g')"
    itself = " OR ".join(f"contains({visible}, {quoted(part.text)})" for part in wanted)
    then = "" if as_of is None else f" AND batch <= {as_of.batch}"
    where = f'file_row IS NOT NULL AND (({inside}) OR ("column" IN ({keys}) AND ({itself}))){then}'
    order = "batch, delivery_id, file_row"
    there = places(look, "rejects", ("raw", "value", "column", "batch", "delivery_id", "file_row"), where, order)
    found = rows_at(look, "rejects", [column.name for column in REJECTS], there).dicts()
    archived = _archived(look, {str(row["delivery_id"]) for row in found})
    vendors = {vendor.name: vendor for vendor in config.vendors}
    cells: dict[str, tuple[int, ...] | None] = {}
    rows = []
    for row in found:
        vendor = vendors.get(str(row["vendor"]), Vendor(str(row["vendor"])))
        delivery = str(row["delivery_id"])
        if delivery not in cells:
            path = archived.get(delivery)
            cells[delivery] = None if path is None else _key_places(config, vendor, path)
        if _is_of(_cells(row, vendor), wanted, cells[delivery]):
            rows.append(row)
    return tuple(rows)


def _archived(look: Look, ids: set[str]) -> dict[str, str]:
    """Where the files of some deliveries are, below the archive folder."""
    if not ids:
        return {}
    listed = ", ".join(map(quoted, sorted(ids)))
    names = ("delivery_id", "archived_to")
    found = look.read(
        f"SELECT delivery_id, archived_to FROM {look.relation('deliveries', names)} "
        f"WHERE delivery_id IN ({listed}) AND archived_to IS NOT NULL"
    )
    return {str(one): str(path) for one, path in rows_of(found).rows}


class _Part:
    """A part of the key as people see it: trimmed, without invisible characters, a number without leading zeros.

    Args:
        text: As the user gave it.
        is_number: Whether the column holds whole numbers.
    """

    def __init__(self, text: str, is_number: bool) -> None:
        self._is_number = is_number
        self.text = self._seen(text)

    def is_in(self, cell: str) -> bool:
        return self._seen(cell) == self.text

    def _seen(self, text: str) -> str:
        visible = "".join(one for one in text if unicodedata.category(one) not in _INVISIBLE).strip()
        return (visible.lstrip("0") or visible) if self._is_number else visible


def _is_of(cells: Sequence[str], parts: Sequence[_Part], places: Sequence[int] | None) -> bool:
    if places is None:
        return all(any(map(part.is_in, cells)) for part in parts)
    return all(place < len(cells) and part.is_in(cells[place]) for part, place in zip(parts, places, strict=True))


def _cells(row: Mapping[str, object], vendor: Vendor) -> list[str]:
    raw = str(row["raw"] or "")
    return dialect_of(vendor.delimiter, vendor.quote, vendor.escape, vendor.widths).cells(raw) or [raw]


def _key_places(config: Config, vendor: Vendor, archived_to: str) -> tuple[int, ...] | None:
    """The places of the key's columns in an archived file; None when the file is missing or has changed."""
    from ordertrail.look.archived_header import archived_header

    contract = config.contract
    try:
        layout = map_header(archived_header(config, vendor, archived_to), contract, vendor)
    except (OSError, OrdertrailError):
        return None
    found = dict(zip(contract.names, layout.cells, strict=True))
    places = tuple(place for name in contract.key if (place := found[name]) is not None)
    return places if len(places) == len(contract.key) else None
