"""The changes of keys of which every cell comes from the newest row, found by sorting numbers.

A row *leads* from its batch on when all newer rows of its key came in later batches. What batch changed a key, and from
what to what, are its leaders in the order of their batches. Numbers are sorted here instead of in DuckDB, whose windows
take ten times as long for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray

from ordertrail.arrow import integers, numbers

_NOBODY = -1
"""Stands for no row where places of rows are told."""

Numbers = NDArray[np.int64]

FOUND_SQL = (
    f"SELECT k, b, old_m <> {_NOBODY} AS was, true AS here, again <> 0 AS again, pos, pos AS m, "
    f"nullif(old_m, {_NOBODY}) AS old_m, s, if(old_m = {_NOBODY}, NULL, old_s) AS old_s FROM"
)
"""SQL of rows of `changes`, to which a relation with what `changes_of` returned is to be appended."""


class Leaders(Struct, frozen=True):
    """The rows that lead, by key and batch; all arrays have the shape (n,).

    Attributes:
        key: The numbers of their keys.
        batch: Since when each leads.
        place: Its place in the history.
        content: The hash of its content.
    """

    key: Numbers
    batch: Numbers
    place: Numbers
    content: Numbers


def leaders_of(rows: pa.Table) -> tuple[Leaders, Numbers]:
    """The leaders of some keys.

    Args:
        rows: All rows of these keys, in any order: `k`, the number of the key; `ord`, larger for a newer row; `bn`, the
            batch; `pos`, the place in the history; `ch`, the hash of the content. Integers, none NULL.

    Returns:
        The leaders of the keys whose rows all differ in `ord`; and the numbers of the other keys, ascending.
    """
    key, at, batch, place, content = (integers(rows.column(name), 0) for name in ("k", "ord", "bn", "pos", "ch"))
    order = _in_order(key, at)
    key, at = key[order], at[order]
    same = key[1:] == key[:-1]
    tied = np.unique(key[1:][same & (at[1:] == at[:-1])])
    if len(tied):
        kept = ~np.isin(key, tied)
        key, order = key[kept], order[kept]
    batch = batch[order]
    leads = _leads(key, batch)
    order = order[leads]
    return Leaders(key[leads], batch[leads], place[order], content[order]), tied


def _in_order(key: Numbers, at: Numbers) -> Numbers:
    """The places of rows by key, and the oldest row of a key first."""
    if not len(key):
        return np.empty(0, np.int64)
    lowest = int(at.min())
    bits = (int(at.max()) - lowest).bit_length()
    if bits + int(key.max()).bit_length() < 63:
        return np.argsort((key << bits) | (at - lowest))  # four times as quick as two columns
    return np.lexsort((at, key))


def _leads(key: Numbers, batch: Numbers) -> NDArray[np.bool_]:
    """Which rows lead; they are in the order of `_in_order`."""
    found = np.ones(len(key), np.bool_)
    if len(key):
        # The least batch of a row and all newer ones of its key: the numbers of a lower key are all lower.
        value = (key - key[0]) * (int(batch.max()) - int(batch.min()) + 1) + (batch - batch.min())
        least = np.minimum.accumulate(value[::-1])[::-1]
        found[:-1] = value[:-1] < least[1:]
    return found


def changes_of(leaders: Leaders, first: int, again: Sequence[int]) -> pa.Table:
    """The changes that rows made which came to lead.

    Args:
        leaders: All of some keys.
        first: The first batch whose changes are wanted.
        again: Batches that send what there is once more.

    Returns:
        `k`, `b`, `again`, `pos`, `old_m`, `s` and `old_s`, see `FOUND_SQL`.
    """
    key, batch, place, content = leaders.key, leaders.batch, leaders.place, leaders.content
    was = np.zeros(len(key), np.bool_)
    was[1:] = key[1:] == key[:-1]
    before = np.arange(len(key)) - was
    changed = (batch >= first) & ~(was & (content == content[before]))
    found = [(changed, batch[changed], 0, np.where(was, place[before], _NOBODY)[changed], content[before][changed])]
    for number in again:
        there = batch < number
        # Of each key the last one that led before.
        there[:-1] &= ~((key[1:] == key[:-1]) & there[1:])
        found.append((there, np.full(int(there.sum()), number, np.int64), 1, place[there], content[there]))
    parts = [
        pa.table(
            {
                "k": numbers(key[mask]),
                "b": numbers(batches),
                "again": numbers(np.full(len(batches), flag, np.int8)),
                "pos": numbers(place[mask]),
                "old_m": numbers(older),
                "s": numbers(content[mask]),
                "old_s": numbers(older_content),
            }
        )
        for mask, batches, flag, older, older_content in found
    ]
    return pa.concat_tables(parts)
