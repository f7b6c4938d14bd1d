"""Weighs a batch for a target that keeps every row (mode `append`): which rows are new, and which it has already.

The rule is in `rules.outcomes`. Nothing is ordered and no row of the target gives way, so neither the history nor the
order of the deliveries is read, and what tells of rows of the target that change is empty.
"""

from __future__ import annotations

from collections.abc import Mapping

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.load import require_staged
from ordertrail.engines.local import relations as r
from ordertrail.engines.local.accepted import ChangeSet
from ordertrail.engines.local.find import find_standing
from ordertrail.engines.local.relations import FoundRows, Relation, StagedBatch, WeighedBatch
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.weigh import Reads, WholeTables, count_outcomes, ordered, stage_rows
from ordertrail.model import Batch, RowCounts
from ordertrail.rules import outcomes as rules
from ordertrail.rules.accepted import TAKEN_BACK
from ordertrail.rules.tables import target_columns


class AppendWeighing:
    """`Weighing` in DuckDB, in mode `append`.

    Attributes:
        session: The pass.
        batch: As it is staged.
        contract: The pipeline's contract.
        stage: The stage with the batch's rows.
        before: The target that the batch was last weighed against by `weigh`; None before that.

    Args:
        session: The pass.
        batch: As it is staged.
        reads: Provides the rows to weigh against; None means the session's tables.

    Raises:
        ForeignChangeError: The stage does not hold the batch.
    """

    def __init__(self, session: Session, batch: Batch, reads: Reads | None = None) -> None:
        self.session = session
        self.batch = batch
        self.contract = session.config.contract
        self.stage = session.tables.stage.snapshot()
        self.before: Snapshot | None = None
        self._reads = reads or WholeTables(session)
        self._weighed: WeighedBatch | None = None
        require_staged(self.stage.txns.get(session.app_id), batch)

    @property
    def change(self) -> ChangeSet:
        """The changes to apply, once the batch was weighed. Others' columns are NULL in the rows of files."""
        assert self._weighed is not None
        return ChangeSet(self.batch, self.stage, self._weighed)

    @property
    def said(self) -> ChangeSet:
        """The same: every staged row has its own outcome."""
        return self.change

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh`."""
        self.before = before = self._reads.target(target_version)
        staged = stage_rows(self.session, self.batch, self.stage)
        taken = self.session.run(f"SELECT delivery_id FROM {self.session.deliveries()} WHERE {TAKEN_BACK}")
        gone = [str(one) for (one,) in taken]
        find_standing(self.session, before, staged, str(staged.rows), gone)
        ordered(self.session, r.FIRSTS, staged.repeated, rules.FIRSTS, rules.FIRSTS_ALONE)
        return self._judged(staged, rules.APPENDED)

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh_again`."""
        staged = stage_rows(self.session, self.batch, self.stage)
        find_written(self.session, self.batch, self._reads.target(target_version), staged.deliveries)
        return self._judged(staged, rules.APPENDED_AGAIN)

    def close(self) -> None:
        """See `Weighing.close`."""
        self._reads.close()

    def _judged(self, staged: StagedBatch, rule: str) -> dict[str, RowCounts]:
        run = self.session.run
        r.CODES_ROW.make(run, rules.codes_sql(self.batch.number))
        outcomes = r.OUTCOMES.make(run, outcomes_sql(rule))
        self._weighed = weighed_batch(self.session, staged, outcomes)
        return count_outcomes(self.session, self.batch, outcomes, staged.deliveries)


def find_written(session: Session, batch: Batch, target: Snapshot, deliveries: Relation) -> Relation:
    """Create `written`: the rows of a batch's deliveries that its commit put into the target.

    Args:
        session: The pass.
        batch: As it is staged.
        target: At the version that the commit created.
        deliveries: `batch_deliveries`.
    """
    scan = scan_sql(session.con, target, target_columns(session.config.contract))
    return r.WRITTEN.make(
        session.run,
        f"SELECT d.dn, t._file_row AS fr FROM {scan} t JOIN {deliveries} d ON t._delivery_id = d.delivery_id "
        f"WHERE t._batch = {batch.number}",
    )


def outcomes_sql(rule: str) -> str:
    """SQL of `outcomes` from a rule of mode `append`: no row of the target stood there before.

    Args:
        rule: Gives `k`, `dn`, `fr` and `outcome`.
    """
    nothing = ", ".join(f"CAST(NULL AS BIGINT) AS {name}" for name in ("rv", "pos", "ins"))
    return f"SELECT k, dn, fr, {nothing}, outcome FROM ({rule})"


def weighed_batch(session: Session, staged: StagedBatch, outcomes: Relation) -> WeighedBatch:
    """A weighed batch by which no row of the target changes.

    Args:
        session: The pass.
        staged: The staged batch.
        outcomes: Of its rows, or of all rows to append.
    """
    run = session.run
    found = FoundRows(r.TARGET_BEFORE.make_empty(run), r.DOUBLED.make_empty(run), tied=False)
    return WeighedBatch(staged, found, r.PLACED.make_empty(run), r.BEST.make_empty(run), outcomes)
