"""Which rows of the target a small batch can touch: one truth value a slot, by the CRC-32 of a key column.

Without it Spark would send all keys of the target through each join; with it, about as many as change. The values are
in a variable of the session: as a literal of the statement they would be in each of its plans, and in the table's log.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from msgspec import Struct

from ordertrail.engines.spark.tables import ticked
from ordertrail.model import Contract

if TYPE_CHECKING:
    from ordertrail.engines.spark.work import SparkPass

MAX_SLOTS = 1 << 23
"""Most slots of a batch. Every task gets a byte for each."""

_MIN_SLOTS = 1 << 12
_SLOTS_A_KEY = 16


class Pruning(Struct, frozen=True):
    """The slots of a batch's keys.

    Attributes:
        column: The key column on which it is based.
        slots: The number of slots, a power of 2.
        taken: The slots of the batch's keys, new ones included, so that a key that somebody else inserts meanwhile is
            noticed.
    """

    column: str
    slots: int
    taken: frozenset[int]


def slots_for(keys: int) -> int | None:
    """The number of slots for this many keys; None when they would exclude nothing."""
    if keys * 4 > MAX_SLOTS:
        return None
    return min(MAX_SLOTS, max(_MIN_SLOTS, 1 << (keys * _SLOTS_A_KEY).bit_length()))


def pruned_by(contract: Contract) -> str | None:
    """The key column for the slots: the first that is text; None when there is none."""
    types = {column.name: column.type for column in contract.columns}
    return next((name for name in contract.key if types[name] == "string"), None)


def pruning_of(column: str, values: Iterable[str]) -> Pruning | None:
    """The slots of some values of a key column; None when there are too many."""
    distinct = set(values)
    slots = slots_for(len(distinct))
    return None if slots is None else Pruning(column, slots, frozenset(slot(value, slots) for value in distinct))


def slot(value: str, slots: int) -> int:
    """The slot of a value, as `pruned_sql` lets Spark compute it."""
    return zlib.crc32(value.encode()) % slots


def pruned_sql(run: SparkPass, pruning: Pruning | None, alias: str) -> str | None:
    """SQL that is true of a row of the target whose slot is taken.

    Args:
        run: The pass, whose session gets the slots until `SparkPass.close`.
        pruning: The slots; None for no condition.
        alias: Of the target in the statement.

    Returns:
        The condition; None also where a session knows no variables: then all rows of the target are joined.
    """
    if pruning is None:
        return None
    taken = np.zeros(pruning.slots, dtype=bool)
    taken[list(pruning.taken)] = True
    rows = pa.table({"value": pa.ListArray.from_arrays(pa.array([0, pruning.slots], pa.int32()), pa.array(taken))})
    name = run.variable("ARRAY<BOOLEAN>", rows)
    if name is None:
        return None
    place = f"CAST(pmod(crc32(CAST({alias}.{ticked(pruning.column)} AS BINARY)), {pruning.slots}) AS INT)"
    return f"element_at({name}, {place} + 1)"
