"""Applies a batch's outcomes to the target by one Delta `MERGE`, whose source contains only the changes.

The MERGE decides nothing: its source carries the target's state when the outcomes were computed, and it fails without
writing when a row of the target has changed since. Keys that a foreign writer left more than once are deleted, and one
row is inserted again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from ordertrail.engines.base import Applier
from ordertrail.engines.spark.causes import MOVED
from ordertrail.engines.spark.pruning import Pruning, pruned_sql
from ordertrail.engines.spark.tables import ticked
from ordertrail.model import Batch, Contract
from ordertrail.rules.tables import TableColumn, target_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ordertrail.engines.spark.work import SparkPass


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
    if (pruned := pruned_sql(run, changes.pruning, "t")) is not None:
        same.append(pruned)
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
