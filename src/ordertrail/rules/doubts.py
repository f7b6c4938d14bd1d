"""What speaks against the rows of a file although they meet the contract: texts for people, a few a file.

They are in the report of the pass, in `plan`, in `orders_deliveries` and in `status`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from msgspec import Struct

from ordertrail.model import DeliveryReport, Manifest, State
from ordertrail.rules.bounds import MAX_SHOWN_CHARS


def swallowed_text(line: int, lines: int) -> str:
    """That cells hold lines which look like rows.

    Args:
        line: Of the file, in which the first such row begins.
        lines: How many lines look like rows.
    """
    many = "a line that looks like a row" if lines == 1 else f"{lines:,} lines that look like rows"
    return (
        f"line {line}: a quoted cell goes on over {many}; if its quote is a stray one, write newlines_in_cells = false "
        "for the vendor: then it is a reject, and the lines below it are read"
    )


FEWEST_DIGITS = 18
"""A shorter number may well have zeros after its 15th digit."""

ROUNDED = r"^[1-9][0-9]{14}0+$"
"""RE2 of a number as a spreadsheet leaves it: it keeps 15 digits (IEEE 754, double precision) and writes zeros."""

_TIMES_CHANCE = 500


class Rounded(Struct, frozen=True):
    """Numbers of a column with zeros alone after their 15th digit.

    Attributes:
        count: How many there are.
        by_chance: How many of its long numbers would end so by chance, each digit being as likely as any other.
        row: The record number of the first one.
        value: The first one.
    """

    count: int
    by_chance: float
    row: int = 0
    value: str = ""

    def __add__(self, later: Rounded) -> Rounded:
        """Both, of one column; the first one is the first of these."""
        first = self if self.count else later
        return Rounded(self.count + later.count, self.by_chance + later.by_chance, first.row, first.value)


def is_rounded(found: Rounded) -> bool:
    """Whether there are far more such numbers than chance would leave in the column."""
    return found.count > 0 and found.count >= _TIMES_CHANCE * found.by_chance


def rounded_text(column: str, found: Rounded) -> str:
    """That a spreadsheet rounded numbers.

    Args:
        column: The contract column.
        found: The numbers.
    """
    others = found.count - 1
    more = f"and {others:,} more {'value' if others == 1 else 'values'} have" if others else "has"
    return (
        f"row {found.row}: {column} {found.value[:MAX_SHOWN_CHARS]} {more} zeros alone after the 15th digit, as a "
        "spreadsheet leaves them of longer numbers: have the column sent as text"
    )


def doubted(deliveries: Iterable[DeliveryReport | Manifest]) -> tuple[str, ...]:
    """The doubts about deliveries that are loaded, one line each."""
    loaded = (one for one in deliveries if one.state is State.LOADED)
    return tuple(doubt_line(one.vendor, one.file_name, text) for one in loaded for text in one.doubts)


def doubt_line(vendor: str, file_name: str, text: str) -> str:
    """One doubt about one file, as a line."""
    return f"{vendor}: {file_name}: {text}"


def doubts_json(doubts: Iterable[str]) -> str | None:
    """Doubts as `orders_deliveries` keeps them; None for none."""
    found = list(doubts)
    return json.dumps(found, ensure_ascii=False) if found else None


def doubts_from(text: str | None) -> tuple[str, ...]:
    """Doubts as `orders_deliveries` keeps them."""
    return tuple(map(str, json.loads(text))) if text else ()
