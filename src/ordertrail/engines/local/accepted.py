"""The accepted rows of a batch with their audit columns, as they go into the target and the history."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.base import Weighing
from ordertrail.engines.local.relations import Relation, WeighedBatch
from ordertrail.engines.local.session import Session
from ordertrail.model import Batch, Contract, Outcome
from ordertrail.rules.audit import FROM, history_sql, judged_sql, listed_sql
from ordertrail.rules.change_feed import CHANGE_TYPE, INSERT, POSTIMAGE
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import TableColumn, stage_columns

ROWS_TAG = "ordertrail.rows"
"""Tag of a stage file that holds only good rows, with the audit columns for the case that all are inserted: then the
file itself can become a file of target and history (`embedded.load`)."""


class ChangeSet(Struct, frozen=True):
    """The changes to apply.

    Attributes:
        batch: As it is staged.
        stage: The stage with its rows.
        weighed: Their outcomes. When it has a fold, that has the contract columns of the new rows, instead of the
            stage's rows.
        others: Columns of others on the target, see `others.carry`.
        rows: SQL of the rows that may go into the target, with the stage's columns; None means those of the stage.
        keys: SQL of the keys that may change, with the contract's key columns; None means those of the staged rows.
    """

    batch: Batch
    stage: Snapshot
    weighed: WeighedBatch
    others: tuple[TableColumn, ...] = ()
    rows: str | None = None
    keys: str | None = None

    @property
    def of_stage(self) -> bool:
        """Whether the new rows are staged rows, with the cells that they were staged with."""
        return self.weighed.folded is None and self.rows is None

    @property
    def plain(self) -> bool:
        """Whether the new rows are just the staged rows with their audit columns, the same as in the history."""
        return self.of_stage and not self.others

    @property
    def staged_rows(self) -> int:
        """Rows of the stage."""
        return sum(file.rows or 0 for file in self.stage.files.values())


class WeighedHere(Weighing, Protocol):
    """A `Weighing` in this process's DuckDB, for those who apply and record its result.

    Attributes:
        session: The pass.
        batch: As it is staged.
        contract: The pipeline's contract.
        stage: The stage with the batch.
        before: The target that the batch was last weighed against by `weigh`; None before that.
    """

    session: Session
    batch: Batch
    contract: Contract
    stage: Snapshot
    before: Snapshot | None

    @property
    def change(self) -> ChangeSet:
        """What to change in the target, once the batch was weighed."""
        ...

    @property
    def said(self) -> ChangeSet:
        """The staged rows with their outcomes, for the history, once the batch was weighed."""
        ...


def accepted_rows_sql(
    session: Session,
    change: ChangeSet,
    outcomes: tuple[int, ...],
    carried: Relation | None = None,
    *,
    for_history: bool,
    as_changes: bool = False,
) -> str:
    """The staged rows with some outcomes, with their audit columns.

    Args:
        session: The pass.
        change: The batch; when it has a fold, the cells come from the fold, except for the history.
        outcomes: The outcomes to select.
        carried: The values of others in the rows that are replaced; not for the history.
        for_history: Whether to add `_outcome` and `_loaded_at`, with the cells as they were sent. For inserted or
            updated rows, all other columns are those of the target. Otherwise columns of others are added, if
            `carried`.
        as_changes: Whether to add `CHANGE_TYPE`, which says what a row is to readers of changes.
    """
    contract = session.config.contract
    staged = change.rows or scan_sql(session.con, change.stage, stage_columns(contract))
    folded = None if for_history else change.weighed.folded
    cells = ", ".join(f"{'f' if folded else 's'}.{name_sql(name)}" for name in (*contract.names, "_rescued"))
    fold = f"JOIN {folded} f ON o.k = f._k " if folded else ""
    others = change.others if carried else ()
    kept = "".join(f", c.{name_sql(column.name)}" for column in others)
    fold += f"LEFT JOIN {carried} c ON o.pos = c._at " if carried else ""
    batch = change.batch
    audit = {
        **{name: f"s.{name}" for name in FROM},
        **judged_sql(batch.number, batch.clock),
        "_row_hash": "s._row_hash",
    }
    words = ", ".join(f"{sql} AS {name}" for name, sql in audit.items())
    ends = "".join(f", {sql} AS {name}" for name, sql in history_sql(batch.clock).items()) if for_history else ""
    if as_changes:
        is_new = f"o.outcome = {CODES[Outcome.INSERTED]}"
        ends += f", CASE WHEN {is_new} THEN {quoted(INSERT)} ELSE {quoted(POSTIMAGE)} END AS {CHANGE_TYPE}"
    return (
        f"SELECT {cells}, {words}{kept}{ends} "
        f"FROM {staged} s JOIN {change.weighed.outcomes} o ON s._delivery_no = o.dn AND s._file_row = o.fr {fold}"
        f"WHERE s._kind = 'row' AND o.outcome IN {listed_sql(outcomes)}"
    )
