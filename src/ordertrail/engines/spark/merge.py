"""Applies a batch's outcomes to the target by one Delta `MERGE`, whose source contains only the changes.

The MERGE decides nothing: its source carries the target's state when the outcomes were computed, and it fails without
writing when a row of the target has changed since. Keys that a foreign writer left more than once are deleted, and one
row is inserted again.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from ordertrail.engines.base import Applier
from ordertrail.engines.spark.causes import MOVED
from ordertrail.engines.spark.tables import ticked
from ordertrail.model import Batch, Contract
from ordertrail.rules.tables import TableColumn, target_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ordertrail.engines.spark.work import SparkPass

"""Numbers of the outcomes that put a row into the target."""

MAX_SLOTS = 1 << 23
"""Most slots of a bitmap of keys. It is a literal, which Spark's planner processes repeatedly."""

_MIN_SLOTS = 1 << 12
_SLOTS_A_KEY = 16

_BITS = 7
"""Slots in a byte of a bitmap: without the highest bit, the bytes are ASCII text."""


class Pruning(Struct, frozen=True):
    """Which rows of the target a batch can touch: a bitmap of the CRC-32 of their keys.

    Without it Spark would sort all keys of the target for the join of MERGE; with it, about as many as change.

    Attributes:
        column: The key column on which it is based.
        slots: The number of slots, a power of 2.
        taken: The slots of the batch's keys, new ones included, so that a key that somebody else inserts meanwhile is
            noticed.
    """

    column: str
    slots: int
    taken: frozenset[int]


class Changes(Struct, frozen=True):
    """The changes to apply to the target.

    Attributes:
        rows: The new rows, with the columns of the target and of `guard_columns`.
        deletes: Whether some rows are `_gone`: they delete the target's rows of their key, which a correction removes,
            or which occurs more than once.
        pruning: None when there are too many keys.
        others: Columns of others that `rows` has, too, for rows that replace doubled ones.
    """

    rows: DataFrame
    deletes: bool
    pruning: Pruning | None
    others: tuple[str, ...] = ()


class Frames(Protocol):
    """The rows of a weighed batch for Spark to write."""

    def changes(self) -> Changes:
        """The changes to apply to the target; call it after `Weighing.weigh`."""
        ...

    def appended(self) -> DataFrame:
        """The rows to append to a target that keeps every row; call it after `Weighing.weigh`."""
        ...

    def history(self) -> DataFrame:
        """The batch's rows of `orders_history`; call it after `Weighing.weigh` or `weigh_again`."""
        ...

    def rejects(self) -> DataFrame:
        """The batch's rows of `orders_rejects`."""
        ...


def guard_columns(contract: Contract) -> tuple[TableColumn, ...]:
    """The columns of `Changes.rows` besides the target's: the state that the MERGE must find there."""
    types = {column.name: column.type for column in contract.columns}
    return (
        TableColumn("_found", "boolean", "the target has a row of this key"),
        TableColumn("_old_revision", "bigint", "its revision"),
        TableColumn("_old_ins", "bigint", "its time of insertion, in microseconds"),
        TableColumn("_gone", "boolean", "its rows go"),
        *(
            TableColumn(f"_k{i}", types[name], "key; NULL where none is to match")
            for i, name in enumerate(contract.key)
        ),
    )


def slots_for(keys: int) -> int | None:
    """The size of a bitmap for this many keys; None when it would exclude nothing."""
    if keys * 4 > MAX_SLOTS:
        return None
    return min(MAX_SLOTS, max(_MIN_SLOTS, 1 << (keys * _SLOTS_A_KEY).bit_length()))


def pruned_by(contract: Contract) -> str | None:
    """The key column for the bitmap: the first that is text; None when there is none."""
    types = {column.name: column.type for column in contract.columns}
    return next((name for name in contract.key if types[name] == "string"), None)


def slot(value: str, slots: int) -> int:
    """The slot of a value of that column, as `_pruned` lets Spark compute it."""
    return zlib.crc32(value.encode()) % slots


class MergeApplier:
    """`Applier` by one `MERGE` with the batch's `txn`.

    Args:
        run: The pass.
        batch: As it is staged.
        frames: What to apply.
    """

    def __init__(self, run: SparkPass, batch: Batch, frames: Frames) -> None:
        self._run = run
        self._batch = batch
        self._frames = frames

    def share(self, target_version: int) -> None:
        """See `Applier.share`: Spark writes all rows of the target itself."""

    def apply(self, target_version: int) -> None:  # noqa: ARG002 - the rows themselves carry what they were weighed against
        """See `Applier.apply`."""
        run, changes = self._run, self._frames.changes()
        merge = _merge_sql(run, run.view(changes.rows), changes)
        run.probe("load.files")
        with run.commit(self._batch, "LOAD"):
            run.spark.sql(merge).collect()
        run.probe("load.committed")


class AppendApplier:
    """`Applier` that appends rows to a target that keeps every row, in one commit with the batch's `txn`.

    Args:
        run: The pass.
        batch: As it is staged.
        frames: What to append.
    """

    def __init__(self, run: SparkPass, batch: Batch, frames: Frames) -> None:
        self._run = run
        self._batch = batch
        self._frames = frames

    def share(self, target_version: int) -> None:
        """See `Applier.share`: Spark writes all rows of the target itself."""

    def apply(self, target_version: int) -> None:  # noqa: ARG002 - nobody can have changed a row since
        """See `Applier.apply`."""
        run, rows = self._run, self._frames.appended()
        run.probe("load.files")
        with run.commit(self._batch, "LOAD") as told:
            run.tables.target.append(rows, told)
        run.probe("load.committed")


def applier_of(run: SparkPass, batch: Batch, frames: Frames) -> Applier:
    """The applier of a batch, by the pipeline's mode."""
    return (AppendApplier if run.config.appends else MergeApplier)(run, batch, frames)


def _merge_sql(run: SparkPass, source: str, changes: Changes) -> str:
    contract = run.config.contract
    names = [column.name for column in target_columns(contract)]
    same = [f"t.{ticked(name)} = s._k{i}" for i, name in enumerate(contract.key)]
    if changes.pruning is not None:
        same.append(_pruned(changes.pruning))
    moved = f"raise_error('{MOVED}')"
    guard = "s._found AND t._revision <=> s._old_revision AND unix_micros(t._inserted_at) <=> s._old_ins"
    sets = {name: f"s.{ticked(name)}" for name in names}
    # In the values, not in the conditions: conditions are evaluated for every row of the join, also for other clauses.
    updated = {**sets, "_revision": f"CASE WHEN {guard} THEN s._revision ELSE {moved} END"}
    # Columns of others in an updated row keep their values by themselves.
    inserted = {**sets, **{name: f"s.{ticked(name)}" for name in changes.others}}
    inserted |= {"_revision": f"CASE WHEN s._found THEN {moved} ELSE s._revision END"}
    moved_away = f"CASE WHEN s._gone AND s._found AND NOT ({guard}) THEN {moved} ELSE true END"
    gone = f"WHEN MATCHED AND s._gone AND {moved_away} THEN DELETE " if changes.deletes else ""
    stays = "WHEN NOT MATCHED AND NOT s._gone THEN" if changes.deletes else "WHEN NOT MATCHED THEN"
    return (
        f"MERGE INTO {run.tables.target.sql_name} t USING {source} s ON {' AND '.join(same)} "
        f"{gone}WHEN MATCHED THEN UPDATE SET {', '.join(f't.{ticked(n)} = {sql}' for n, sql in updated.items())} "
        f"{stays} INSERT ({', '.join(map(ticked, inserted))}) VALUES ({', '.join(inserted.values())})"
    )


def _pruned(pruning: Pruning) -> str:
    bitmap = bytearray(pruning.slots // _BITS + 1)
    for taken in pruning.taken:
        bitmap[taken // _BITS] |= 1 << taken % _BITS
    place = f"CAST(pmod(crc32(CAST(t.{ticked(pruning.column)} AS BINARY)), {pruning.slots}) AS INT)"
    byte = f"ascii(CAST(substring(X'{bitmap.hex()}', {place} DIV {_BITS} + 1, 1) AS STRING))"
    return f"(shiftright({byte}, {place} % {_BITS}) & 1) = 1"
