"""Finds a shipment: by its key, by the key in another case, by an order number, or by a part of the key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ordertrail.errors import UsageError
from ordertrail.look.as_of import AsOf
from ordertrail.look.rows import Cell, Row, rows_of
from ordertrail.model import Contract
from ordertrail.rules.cell_sql import BLANKS
from ordertrail.rules.sql import name_sql, quoted

if TYPE_CHECKING:
    import pyarrow as pa

MOST_MATCHES = 20
"""So many matches are listed."""

MIN_PART_CHARS = 3
"""A part of a key needs so many characters."""

CASE, PART = "case", "part"
"""`Match.found_by` of a key in another case, and of one that has the text as a part."""

_ORDER_NUMBER = "order_num"


@dataclass(frozen=True, slots=True)
class Match:
    """A shipment that a text may mean.

    Attributes:
        key: Of the shipment; several columns are joined by `/`.
        found_by: `case`: the key in another case; a column's name: its order number; `part`: a part of the key.
        vendor: Who sent its current row.
        status: Of its current row; None when the contract has no status column.
        time: Its event time.
    """

    key: str
    found_by: str
    vendor: Cell
    status: Cell
    time: Cell


@dataclass(frozen=True, slots=True)
class Track:
    """What is known about one key, or the keys that a text may mean.

    Attributes:
        key: As it was looked for, or as it was found; several columns are joined by `/`.
        current: The target's row, None when there is none.
        history: Every accepted row with its outcome, oldest first by the total order.
        rejected: The rejects of its rejected rows, oldest batch first; a row has one for each bad cell.
        matches: What was found when no row has exactly this key; one match is shown whole, as if it was asked for.
        more: How many matches there are beside those.
        as_of: The earlier moment that was asked for; None means now.
    """

    key: str
    current: Row | None
    history: tuple[Row, ...]
    rejected: tuple[Row, ...] = ()
    matches: tuple[Match, ...] = ()
    more: int = 0
    as_of: AsOf | None = None


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
    trimmed = [part.strip(BLANKS) for part in parts]
    if not all(trimmed):
        raise UsageError("the key is blank", hint=f"give {' / '.join(key)}")
    return trimmed


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    Attributes:
        matches: At most `MOST_MATCHES`.
        more: How many there are beside those.
        parts: The parts of the only match; None when there are several or none.
    """

    matches: tuple[Match, ...] = ()
    more: int = 0
    parts: tuple[str, ...] | None = None


def search(contract: Contract, latest: Callable[[str], str], text: str, read: Callable[[str], pa.Table]) -> Found:
    """Find the shipments that a text may mean, by the first of these that finds any.

    The key in another case; a column that holds order numbers, in any case; a part of the key, in any case, keys that
    begin with it first.

    Args:
        contract: Of the pipeline.
        latest: Gives SQL of the latest state of keys, at least of those that a condition finds in the target.
        text: What the user gave; no shipment has exactly this key.
        read: Runs SQL over the tables.
    """
    given = text.strip(BLANKS)
    keys = [f"CAST({name_sql(name)} AS VARCHAR)" for name in contract.key]
    joined = f"concat_ws('/', {', '.join(keys)})"
    shown = [joined, *keys, "_vendor", name_sql(contract.status) if contract.status else "NULL"]
    columns = ", ".join(f"{sql} AS c{i}" for i, sql in enumerate((*shown, name_sql(contract.order_by))))
    for found_by, where in _ways(contract, joined, given):
        found = rows_of(
            read(
                f"SELECT {columns}, count(*) OVER () FROM {latest(where)} WHERE {where} "
                f"ORDER BY NOT starts_with(lower(c0), lower({quoted(given)})), c0 LIMIT {MOST_MATCHES}"
            )
        ).rows
        if found:
            matches = tuple(Match(str(row[0]), found_by, *row[-4:-1]) for row in found)
            only = tuple(map(str, found[0][1 : 1 + len(keys)])) if len(found) == 1 else None
            return Found(matches, int(str(found[0][-1])) - len(matches), only)
    return Found()


def order_numbers(contract: Contract) -> tuple[str, ...]:
    """The columns by which `track` finds shipments beside the key: `order_num`, and text with `identifier = true`."""
    return tuple(
        column.name
        for column in contract.columns
        if column.name not in contract.key and (column.identifier or column.name == _ORDER_NUMBER)
    )


def _ways(contract: Contract, joined: str, text: str) -> Iterator[tuple[str, str]]:
    """Each way to search, with SQL that is true of the rows it finds."""
    wanted = f"lower({quoted(text)})"
    if not text:
        return
    yield CASE, f"lower({joined}) = {wanted}"
    for name in order_numbers(contract):
        yield name, f"lower(CAST({name_sql(name)} AS VARCHAR)) = {wanted}"
    if len(text) >= MIN_PART_CHARS:
        yield PART, f"contains(lower({joined}), {wanted})"
