"""Changes found by sorting numbers, against what a reader of the rows would say, batch by batch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pyarrow as pa
import pytest

from ordertrail.engines.local.leaders import changes_of, leaders_of

Row = tuple[int, int, int, int, int]
"""Key, order, batch, place, content."""


def table(rows: Sequence[Row]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[]] * 5
    return pa.table({n: pa.array(c, pa.int64()) for n, c in zip(("k", "ord", "bn", "pos", "ch"), columns, strict=True)})


def told(rows: Sequence[Row], first: int, again: Sequence[int] = ()) -> list[tuple[int, int, int, int | None]]:
    """Key, batch, place of the row after, and of the row before: the newest row through a batch is its state."""
    found = []
    for key in sorted({row[0] for row in rows}):
        mine = [row for row in rows if row[0] == key]
        states: list[Row | None] = [None]
        for batch in sorted({*(row[2] for row in mine), *again}):
            through = [row for row in mine if row[2] <= batch]
            if batch in again and states[-1] is not None:
                found.append((key, batch, states[-1][3], states[-1][3]))
            if any(row[2] == batch for row in mine):
                newest, before = max(through, key=lambda row: row[1]), states[-1]
                if batch >= first and (before is None or before[4] != newest[4]):
                    found.append((key, batch, newest[3], None if before is None else before[3]))
                states.append(newest)
    return sorted(found, key=str)


@pytest.mark.parametrize("seed", range(40))
def test_changes_are_the_differences_of_states(seed: int) -> None:
    dice = random.Random(seed)
    # Orders so far apart that they do not fit into one number with the key, every other time.
    far = 1 << 57 if seed % 2 else 1
    rows: list[Row] = [
        (dice.randint(0, 6), (order - 20) * far, dice.randint(0, 5), place, dice.randint(0, 2))
        for place, order in enumerate(dice.sample(range(40), dice.randint(0, 30)))
    ]
    first, again = dice.randint(0, 4), [6] if seed % 3 == 0 else []
    leaders, tied = leaders_of(table(rows))
    assert not len(tied)
    found = changes_of(leaders, first, again).to_pylist()
    assert told(rows, first, again) == sorted(
        ((r["k"], r["b"], r["pos"], None if r["old_m"] < 0 else r["old_m"]) for r in found), key=str
    )
    content = {row[3]: row[4] for row in rows}
    assert all(row["s"] == content[row["pos"]] for row in found)
    assert all(row["old_s"] == content[row["old_m"]] for row in found if row["old_m"] >= 0)


def test_keys_with_rows_of_one_order_are_left() -> None:
    rows = [(key, order, batch, 10 * key + batch, 7) for key in range(3) for order, batch in ((5, 0), (5 + key % 2, 1))]
    leaders, tied = leaders_of(table(rows))
    assert tied.tolist() == [0, 2]
    assert leaders.place.tolist() == [10, 11]
