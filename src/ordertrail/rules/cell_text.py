"""From the cells of a file to the text of a contract column, before its type counts.

Step by step: what several cells or the file's name say; without blanks and what nobody sees; no value where the text
is one of `nulls`; the key in the vendor's `key_case`, without `key_strip`. What the config does not ask for is no SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ordertrail.model import Column, Contract, Vendor
from ordertrail.rules.identifiers import PLAIN
from ordertrail.rules.sql import quoted
from ordertrail.rules.texts import BLANKS, trimmed_sql, visible_sql


@dataclass(frozen=True, slots=True)
class CellText:
    """The SQL of a column's text.

    Attributes:
        raw: What the file has, to be shown when it is wrong.
        steps: (name, SQL), each of which may read the ones before.
        text: Name of the text; for text columns it is NULL when nothing is left.
        parts: SQL of the cells that are put together; empty for a column that is one cell.
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
    parts = tuple(parts_of(index, len(dict(vendor.combine).get(column.name, ()))))
    text = raw
    if elsewhere := _elsewhere(index, column.name, vendor, parts):
        text = f"j{index}"
        raw = elsewhere if parts else text
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
    if nulls := [word.strip(BLANKS) for word in (*vendor.nulls, *column.nulls)]:
        said = text if is_text else trimmed_sql(text)
        listed = ", ".join(map(quoted, dict.fromkeys(nulls)))
        steps.append((f"n{index}", f"CASE WHEN {said} IN ({listed}) THEN NULL ELSE {text} END"))
        text = f"n{index}"
    if is_key and column.type == "string" and (vendor.key_strip or vendor.key_case == "upper"):
        steps.append((f"y{index}", _key(text, vendor)))
        text = f"y{index}"
    return CellText(raw, tuple(steps), text, parts)


def name_column(index: int) -> str:
    """The column of the files of a job in which the part of their names stands that a contract column is."""
    return f"named{index}"


def parts_of(index: int, count: int) -> list[str]:
    """Names of the cells that are put together to a column: `c0`, `c0_1`, ...; none for fewer than two."""
    return [f"c{index}", *(f"c{index}_{number}" for number in range(1, count))] if count > 1 else []


def _elsewhere(index: int, name: str, vendor: Vendor, parts: tuple[str, ...]) -> str | None:
    """SQL of a column that no cell of its own says; None when one does."""
    if parts:
        return f"nullif(concat_ws(' ', {', '.join(parts)}), '')"
    if name in dict(vendor.constants):
        return quoted(dict(vendor.constants)[name])
    if vendor.from_name is not None and name in re.compile(vendor.from_name).groupindex:
        return f"CAST({name_column(index)} AS VARCHAR)"
    return None


def _cleaned(text: str, *, identifier: bool) -> str:
    if not identifier:
        return trimmed_sql(text)
    return f"CASE WHEN regexp_full_match({text}, {quoted(PLAIN)}) THEN {text} ELSE {visible_sql(text)} END"


def _key(text: str, vendor: Vendor) -> str:
    if vendor.key_strip:
        text = f"nullif(translate({text}, {quoted(vendor.key_strip)}, ''), '')"
    return f"upper({text})" if vendor.key_case == "upper" else text
