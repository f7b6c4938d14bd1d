"""Which batch each of the five tables has, and which of those states a pass, even one that was killed, can leave.

A batch is committed to the tables in one order, the deliveries last, and the next batch is staged only afterwards. So
no table is behind the done mark, and none is ahead of the staged batch, which is at most the next one. Tables are
created in the same order, once, before the first batch. Any other state comes from outside: a deleted folder, an
unmounted disk, a table restored from an older backup.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

ROLES = ("stage", "target", "history", "rejects", "deliveries")
"""The tables in the order in which they are created, and in which a batch is written to them."""


class Progress(Struct, frozen=True):
    """How far the batches of a pipeline are: the last one in each of the tables, 0 for none.

    Attributes:
        staged: In the stage.
        loaded: In the target.
        recorded: In the history.
        rejected: In the rejects.
        done: In the deliveries, which is the done mark.
        archived: The last one whose files are archived, or wait for it one by one.
    """

    staged: int
    loaded: int
    recorded: int
    rejected: int
    done: int
    archived: int

    @property
    def highest(self) -> int:
        """The highest number that a table has; the next batch is one more."""
        return max(self.staged, self.loaded, self.recorded, self.rejected, self.done)

    @property
    def unfinished(self) -> bool:
        """Whether a batch is staged that lacks the done mark."""
        return self.staged > self.done


class Standing(Struct, frozen=True):
    """The last batch of one table.

    Attributes:
        role: One of `ROLES`.
        name: The table's name.
        batch: The last batch that it has, 0 for none; None when the table does not exist.
    """

    role: str
    name: str
    batch: int | None


class Loss(Struct, frozen=True):
    """A table that was lost, entirely or its last batches.

    Attributes:
        role: One of `ROLES`.
        what: What is wrong with it, naming the tables.
        ahead: Whether the history or the rejects have a batch that the stage lacks: that batch is unfinished and cannot
            be finished.
    """

    role: str
    what: str
    ahead: bool = False


def makeable(tables: Sequence[Standing]) -> bool:
    """Whether the missing tables were never created: nothing was loaded, and only the last ones are missing."""
    there = [table for table in tables if table.batch is not None]
    return not any(table.batch for table in there) and list(tables[: len(there)]) == there


def loss(tables: Sequence[Standing]) -> Loss | None:
    """What was lost; None when the tables are in a state that passes leave.

    Args:
        tables: All five, in the order of `ROLES`.
    """
    if makeable(tables):
        return None
    there = {table.name: table.batch for table in tables if table.batch is not None}
    top = max(there.values())
    for table in tables:
        if table.batch is None:
            ahead = table.role == "stage" and _ahead(tables)
            return Loss(table.role, f"the table {table.name} is not there, but {_others(there)} {_up_to(top)}", ahead)
    stage, target, history, rejects, deliveries = (table.batch or 0 for table in tables)
    leader = next(name for name, batch in there.items() if batch == top)
    if deliveries < top - 1:
        return Loss("deliveries", _behind(tables[-1], f"{leader} at batch {top}"))
    for table, batch in zip(tables, (stage, target, history, rejects), strict=False):
        if batch < deliveries:
            last = f"batch {deliveries} is done according to {tables[-1].name}"
            return Loss(table.role, _behind(table, last), table.role == "stage" and _ahead(tables))
    if stage < top:
        return Loss("stage", _behind(tables[0], f"{leader}, which is written after it, at batch {top}"), _ahead(tables))
    return None


def _ahead(tables: Sequence[Standing]) -> bool:
    done = tables[-1].batch or 0
    return any((table.batch or 0) > done for table in tables[2:])


def _behind(table: Standing, other: str) -> str:
    return f"the table {table.name} stands at batch {table.batch}, but {other}: it has lost the batches since"


def _others(there: dict[str, int]) -> str:
    names = list(there)
    return f"{', '.join(names[:-1])} and {names[-1]} are" if len(names) > 1 else f"{names[0]} is"


def _up_to(batch: int) -> str:
    return f"up to batch {batch}" if batch else "before the first batch"
