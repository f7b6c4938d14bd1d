"""CHECK constraints that the owner of the target has put on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from ordertrail.model import Contract

_CHECK = "delta.constraints."


class Constraint(Struct, frozen=True):
    """What a row of the target must meet.

    Attributes:
        name: For people.
        condition: SQL that is true for a row that is taken; Delta refuses one for which it is NULL, too.
        columns: The contract columns that it may speak of.
    """

    name: str
    condition: str
    columns: tuple[str, ...]


def constraints_of(contract: Contract, properties: Mapping[str, str]) -> tuple[Constraint, ...]:
    """The CHECK constraints of a table. What it has as NOT NULL, the contract requires, and the row kernel rejects.

    Args:
        contract: Names the columns.
        properties: Of the table.
    """
    return tuple(
        Constraint(name.removeprefix(_CHECK), f"({condition})", tuple(_spoken_of(contract, condition)))
        for name, condition in sorted(properties.items())
        if name.startswith(_CHECK)
    )


def _spoken_of(contract: Contract, condition: str) -> Iterator[str]:
    """Contract columns whose names stand in a condition; one that only stands in a text is one too many."""
    yield from (name for name in contract.names if re.search(rf"(?i)\b{re.escape(name)}\b", condition))
