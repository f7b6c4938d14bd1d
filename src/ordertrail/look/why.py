"""Why a shipment's row is as it is: what each row about it did, and who said each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from ordertrail.look.rows import Cell, Row
from ordertrail.look.track import Track
from ordertrail.model import Contract, Outcome

DID: Mapping[str, str] = {
    Outcome.INSERTED: "the first row of this shipment",
    Outcome.UPDATED: "newer than the row in the table, so it took its place",
    Outcome.UNCHANGED: "says what the table said already",
    Outcome.STALE: "older than the row in the table, so it changed nothing",
    Outcome.SUPERSEDED: "lost to a newer row of the same batch",
    Outcome.DUPLICATE: "the same row had come before",
}
"""What a row of each outcome did when it came."""


class Said(Struct, frozen=True):
    """A value of a shipment's current row, and where it comes from.

    Attributes:
        column: The contract column.
        value: The value.
        by: The row of the history that said it; None when no row of the history does: somebody else wrote it.
        since: The first of the rows in a row that said the same, `by` being the last of them; None without `by`.
        times: How many these are.
    """

    column: str
    value: Cell
    by: Row | None
    since: Row | None
    times: int


def why(contract: Contract, found: Track) -> tuple[Said, ...]:
    """Who said each value of the current row.

    A value is that of the newest row that counts; of a column that its file does not carry, that of the newest row
    whose file does.

    Args:
        contract: Of the tables.
        found: What is known about the shipment.
    """
    if found.current is None:
        return ()
    counting = [row for row in found.history if not row.get("_taken_back")]
    return tuple(_said(name, found.current[name], counting, found.lacks, contract) for name in contract.names)


def _said(
    name: str, value: Cell, counting: Sequence[Row], lacks: Mapping[str, frozenset[str]], contract: Contract
) -> Said:
    carry = [row for row in counting if name not in lacks.get(str(row["_delivery_id"]), ())]
    if not carry or carry[-1][name] != value:
        return Said(name, value, None, None, 0)
    first = len(carry) - 1
    while first and carry[first - 1][name] == value and name != contract.order_by:
        first -= 1
    return Said(name, value, carry[-1], carry[first], len(carry) - first)
