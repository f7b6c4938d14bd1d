"""From the cells of a file to the text of a contract column, before its type counts.

Step by step: what several cells or the file's name say; without blanks and what nobody sees; no value where the text
is one of `nulls`; the key in the vendor's `key_case`, without `key_strip`. What the config does not ask for is no SQL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from ordertrail.model import Column, Contract, Vendor
from ordertrail.rules.identifiers import PLAIN
from ordertrail.rules.sql import quoted
from ordertrail.rules.texts import BLANKS, trimmed_sql, visible_sql


class CellText(Struct, frozen=True):
    """The SQL of a column's text.

    Attributes:
        raw: What the file has, to be shown when it is wrong.
        steps: (name, SQL), each of which may read the ones before.
        text: Name of the text; for text columns it is NULL when nothing is left.
        parts: SQL of what the cells say that are put together; empty for a column that is one cell.
    """

    raw: str
    steps: tuple[tuple[str, str], ...]
    text: str
    parts: tuple[str, ...] = ()

    @property
    def looked_at(self) -> str:
        """SQL that is false where the kernel's look at the bytes of a batch says that no cell is odd."""
        return "true" if self.steps and self.steps[0][0].startswith("j") else f"f{self.text[1:]}"


MOST_STEPS = 4
"""Most steps that a column can have."""


def cell_text(index: int, column: Column, contract: Contract, vendor: Vendor) -> CellText:
    """The SQL of a column's text.

    Args:
        index: Its place in the contract.
        column: Of the contract.
        contract: Which columns are its key.
        vendor: What the vendor's cells mean.
    """
    raw, is_key = f"c{index}", column.name in contract.key
    steps: list[tuple[str, str]] = []
    nulls = nulls_of(column, vendor)
    cells = parts_of(index, len(dict(vendor.combine).get(column.name, ())))
    parts = tuple(part_sql(cell, nulls, trim=column.type != "string" or column.trim) for cell in cells)
    text = raw
    if elsewhere := _elsewhere(index, column.name, vendor, parts):
        text = f"j{index}"
        raw = _joined(cells) if parts else text
        steps.append((text, elsewhere))
    is_text = column.type == "string" and column.trim
    if is_text:
        identifier = column.identifier or is_key
        # The kernel looks at `c0` ...; all else is always looked at.
        cleaned = _cleaned(text, identifier=identifier)
        if not steps:
            cleaned = f"CASE WHEN f{index} THEN {cleaned} ELSE {text} END"
        steps.append((f"t{index}", cleaned))
        text = f"t{index}"
    if nulls and column.name not in dict(vendor.constants):
        said = text if is_text else trimmed_sql(text)
        steps.append((f"n{index}", _without(nulls, said, text)))
        text = f"n{index}"
    if is_key and column.type == "string" and (vendor.key_strip or vendor.key_case == "upper"):
        steps.append((f"y{index}", _key(text, vendor)))
        text = f"y{index}"
    return CellText(raw, tuple(steps), text, parts)


def nulls_of(column: Column, vendor: Vendor) -> tuple[str, ...]:
    """The texts that mean no value in a column, without blanks around them."""
    return tuple(dict.fromkeys(word.strip(BLANKS) for word in (*vendor.nulls, *column.nulls)))


def part_sql(cell: str, nulls: Sequence[str], *, trim: bool) -> str:
    """SQL of one of the cells that make a column; NULL when it says nothing.

    Args:
        cell: SQL of its text.
        nulls: From `nulls_of`.
        trim: Whether blanks around it are taken off.
    """
    said = trimmed_sql(cell)
    kept = said if trim else cell
    return _without(nulls, said, kept) if nulls else kept


def name_column(index: int) -> str:
    """The column of the files of a job in which the part of their names stands that a contract column is."""
    return f"named{index}"


def parts_of(index: int, count: int) -> list[str]:
    """Names of the cells that are put together to a column: `c0`, `c0_1`, ...; none for fewer than two."""
    return [f"c{index}", *(f"c{index}_{number}" for number in range(1, count))] if count > 1 else []


def _elsewhere(index: int, name: str, vendor: Vendor, parts: tuple[str, ...]) -> str | None:
    """SQL of a column that no cell of its own says; None when one does."""
    if parts:
        return _joined(parts)
    if name in dict(vendor.constants):
        return quoted(dict(vendor.constants)[name])
    if vendor.from_name is not None and name in re.compile(vendor.from_name).groupindex:
        return f"CAST({name_column(index)} AS VARCHAR)"
    return None


def _joined(texts: Sequence[str]) -> str:
    return f"nullif(concat_ws(' ', {', '.join(texts)}), '')"


def _without(nulls: Sequence[str], said: str, kept: str) -> str:
    return f"CASE WHEN {said} IN ({', '.join(map(quoted, nulls))}) THEN NULL ELSE {kept} END"


def _cleaned(text: str, *, identifier: bool) -> str:
    if not identifier:
        return trimmed_sql(text)
    return f"CASE WHEN regexp_full_match({text}, {quoted(PLAIN)}) THEN {text} ELSE {visible_sql(text)} END"


def _key(text: str, vendor: Vendor) -> str:
    if vendor.key_strip:
        text = f"nullif(translate({text}, {quoted(vendor.key_strip)}, ''), '')"
    return f"upper({text})" if vendor.key_case == "upper" else text
