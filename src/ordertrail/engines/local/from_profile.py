"""What a vendor's profile tells of a column: `combine`, `constants` and `from_name`, for rows that were loaded before.

A pass gives these to the rows of a file; a migration gives them to the rows of earlier files, which lacked the column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from ordertrail.engines.local.said_again import constant_text
from ordertrail.errors import QuarantineError
from ordertrail.model import Column, Vendor
from ordertrail.rules.accepted import ABSENT
from ordertrail.rules.cell_text import nulls_of, part_sql
from ordertrail.rules.cells import header_of
from ordertrail.rules.headers import folded, named, told_by_config
from ordertrail.rules.sql import quoted


class FromProfile(Struct, frozen=True):
    """Where a column comes from that no header names.

    Attributes:
        column: The contract column.
        parts: For each part of a combined column, the names in `_rescued` that it has there.
        nulls: Texts of a part that mean no value.
        trim: Whether blanks around a part are taken off.
        constant: Its value as the vendor would write it; None when it is no constant.
        from_name: The expression for a file's name that tells it; None when it does not.
    """

    column: str
    parts: tuple[tuple[str, ...], ...] = ()
    nulls: tuple[str, ...] = ()
    trim: bool = True
    constant: str | None = None
    from_name: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """All names in `_rescued` that make it."""
        return tuple(key for part in self.parts for key in part)

    def sql(self, rescued: str, file_name: str, lacked: str, names: Iterable[str]) -> str:
        """SQL of the text; NULL where nothing tells it, "" where cells say that there is no value.

        Args:
            rescued: SQL of `_rescued`.
            file_name: SQL of `_file_name`.
            lacked: SQL that is true of rows whose file lacked the column.
            names: The names of the files, for `from_name`.
        """
        if self.parts:
            members = [f"coalesce({', '.join(_member(rescued, key) for key in part)})" for part in self.parts]
            texts = [part_sql(member, self.nulls, trim=self.trim) for member in members]
            whole = " AND ".join(f"{text} IS NOT NULL" for text in texts)
            joined = " || ' ' || ".join(texts)
            nothing = f"coalesce({', '.join(texts)}) IS NULL AND coalesce({', '.join(members)}) IS NOT NULL"
            return f"CASE WHEN {whole} THEN {joined} WHEN {nothing} THEN '' END"
        if self.constant is not None:
            return f"CASE WHEN {lacked} THEN {quoted(self.constant)} END"
        vendor = Vendor("", from_name=self.from_name)
        found = {name: text for name in names if (text := _of_name(name, vendor, self.column)) is not None}
        listed = ", ".join(f"{quoted(name)}: {quoted(text)}" for name, text in sorted(found.items()))
        return f"CASE WHEN {lacked} THEN map_extract(MAP {{{listed}}}, {file_name})[1] END" if found else "NULL"


def from_profile(column: Column, vendor: Vendor, rescued: Sequence[str]) -> FromProfile | None:
    """What a vendor's profile tells of a column; None when it tells nothing.

    Args:
        column: The contract column.
        vendor: The profile.
        rescued: Names in `_rescued` of the vendor's rows.
    """
    headers = dict(vendor.combine).get(column.name)
    if headers is not None:
        folds = {key: folded(header_of(key)) for key in rescued}
        parts = tuple(tuple(key for key, fold in folds.items() if fold == folded(header)) for header in headers)
        trim = column.type != "string" or column.trim
        return FromProfile(column.name, parts, nulls_of(column, vendor), trim) if all(parts) else None
    if column.name not in told_by_config(vendor):
        return None
    constant = dict(vendor.constants).get(column.name)
    if constant is not None:
        return FromProfile(column.name, constant=constant_text(constant, column.type, vendor))
    return FromProfile(column.name, from_name=vendor.from_name)


def lacked_sql(delivery_id: str, name: str, deliveries: str) -> str:
    """SQL that is true of rows whose delivery lacked a column.

    Args:
        delivery_id: SQL of `_delivery_id`.
        name: The column's name when the delivery came.
        deliveries: Relation of `orders_deliveries`.
    """
    return f"{delivery_id} IN (SELECT delivery_id FROM {deliveries} WHERE list_contains({ABSENT}, {quoted(name)}))"


def _of_name(name: str, vendor: Vendor, column: str) -> str | None:
    try:
        return named(name, vendor).get(column)
    except QuarantineError:
        return None


def _member(rescued: str, key: str) -> str:
    pointer = "/" + key.replace("~", "~0").replace("/", "~1")
    return f"nullif({rescued} ->> {quoted(pointer)}, '')"
