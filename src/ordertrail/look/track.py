"""What is known about a shipment, as values; `tracking` finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from ordertrail.errors import UsageError
from ordertrail.look.as_of import AsOf
from ordertrail.look.rows import Cell, Row
from ordertrail.model import Contract
from ordertrail.rules.texts import visible

MOST_MATCHES = 20
"""So many matches are listed."""

MIN_PART_CHARS = 3
"""A part of a key needs so many characters."""

CASE, ENDS, STARTS, PART = "case", "end", "start", "part"
"""`Match.found_by` of a key in another case, and of one that ends with the text, begins with it, or has it inside."""


_ORDER_NUMBER = "order_num"


class Match(Struct, frozen=True):
    """A shipment that a text may mean.

    Attributes:
        key: Of the shipment; several columns are joined by `/`.
        found_by: `case`: the key in another case; a column's name: its order number; `end`, `start`, `part`: the end,
            the beginning or another part of the key.
        vendor: Who sent its current row.
        status: Of its current row; None when the contract has no status column.
        time: Its event time.
    """

    key: str
    found_by: str
    vendor: Cell
    status: Cell
    time: Cell


class Track(Struct, frozen=True):
    """What is known about one key, or the keys that a text may mean.

    Attributes:
        key: As it was looked for, or as it was found; several columns are joined by `/`.
        current: The target's row, None when there is none.
        history: Every accepted row with its outcome, oldest first by the total order.
        rejected: The rejects of its rejected rows, oldest batch first; a row has one for each bad cell.
        matches: What was found when no row has exactly this key; one match is shown whole, as if it was asked for.
        more: How many matches there are beside those; of parts that a great many have, at least so many.
        as_of: The earlier moment that was asked for; None means now.
        lacks: By the id of each delivery that spoke of it, the contract columns that its file does not carry.
    """

    key: str
    current: Row | None
    history: tuple[Row, ...]
    rejected: tuple[Row, ...] = ()
    matches: tuple[Match, ...] = ()
    more: int = 0
    as_of: AsOf | None = None
    lacks: Mapping[str, frozenset[str]] = field(default_factory=dict)


def key_parts(contract: Contract, number: str | Sequence[str]) -> list[str]:
    """The parts of a key, one for each key column, trimmed.

    Raises:
        UsageError: There are not as many parts as key columns, or one is blank.
    """
    key = contract.key
    whole = isinstance(number, str) and len(key) == 1
    parts = [str(number)] if whole else number.split("/") if isinstance(number, str) else list(number)
    if len(parts) != len(key):
        raise UsageError(f"the key {number!r} does not have {len(key)} parts", hint=f"give {' / '.join(key)}")
    trimmed = [visible(part) for part in parts]
    if not all(trimmed):
        raise UsageError("the key is blank", hint=f"give {' / '.join(key)}")
    return trimmed


def order_numbers(contract: Contract) -> tuple[str, ...]:
    """The columns by which `track` finds shipments beside the key: `order_num`, and text with `identifier = true`."""
    return tuple(
        column.name
        for column in contract.columns
        if column.name not in contract.key and (column.identifier or column.name == _ORDER_NUMBER)
    )
