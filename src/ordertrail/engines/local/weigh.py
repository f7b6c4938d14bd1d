"""Weighs a batch in DuckDB: determines the outcome of every staged row.

The rules are the SQL of `rules.outcomes`. This module fills the relations that they read from the stage, the target and
the history; `find` finds the target's rows of the staged keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec.structs import replace

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.batch_rows import batch_deliveries, counted
from ordertrail.engines.load import require_staged
from ordertrail.engines.local import relations
from ordertrail.engines.local.accepted import ChangeSet
from ordertrail.engines.local.find import find_by_scan, find_rows
from ordertrail.engines.local.fold import fold, place_deliveries
from ordertrail.engines.local.relations import (
    BATCH_DELIVERIES,
    BEST,
    CODES_ROW,
    CURRENT,
    HISTORY_ROWS,
    OUTCOMES,
    RANKED,
    RECALLED,
    REPEATED,
    STAGED,
    STAGED_ROWS,
    FoundRows,
    Relation,
    StagedBatch,
    WeighedBatch,
)
from ordertrail.engines.local.session import Session, others_on
from ordertrail.model import Batch, RowCounts
from ordertrail.rules import outcomes as rules
from ordertrail.rules import placing
from ordertrail.rules.accepted import LOADED, accepted_sql, lacking_sql
from ordertrail.rules.placing import content_sql, contract_key_sql, order_sql, placed_or_lowest_sql
from ordertrail.rules.tables import TableColumn, history_columns, stage_columns


class Reads(Protocol):
    """Provides the rows of target and history against which a batch is weighed."""

    def target(self, version: int) -> Snapshot:
        """The target at a version, with at least the rows of the staged keys."""
        ...

    def history(self, keys: str) -> Snapshot:
        """The history, with at least the rows of some keys before this batch.

        Args:
            keys: SQL of the keys as text. The first call is for at least as many keys as any later one.
        """
        ...

    def close(self) -> None:
        """Release all resources. Idempotent."""
        ...


class WholeTables:
    """`Reads` on the complete tables.

    Args:
        session: The pass.
    """

    def __init__(self, session: Session) -> None:
        self._tables = session.tables

    def target(self, version: int) -> Snapshot:
        """See `Reads.target`."""
        return self._tables.target.snapshot(version)

    def history(self, keys: str) -> Snapshot:  # noqa: ARG002 - all keys are there
        """See `Reads.history`."""
        return self._tables.history.snapshot()

    def close(self) -> None:
        """See `Reads.close`: the tables belong to the session, so nothing is released."""


OUTCOME_OF = {number: outcome for outcome, number in rules.CODES.items()}
"""The outcome of each number in the engines' working tables."""

FindRows = Callable[[Session, Snapshot, StagedBatch], FoundRows]
"""Finds the target's rows of the staged keys: `find.find_rows` or `find.find_by_scan`."""


class LocalWeighing:
    """`Weighing` in DuckDB.

    The results to apply and record are in relations of DuckDB (`relations.WeighedBatch`).

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
        self._absent: tuple[str, ...] = ()
        self._others: tuple[TableColumn, ...] = ()
        self._weighed: WeighedBatch | None = None
        require_staged(self.stage.txns.get(session.app_id), batch)

    @property
    def change(self) -> ChangeSet:
        """The changes to apply, once the batch was weighed."""
        assert self._weighed is not None
        return ChangeSet(self.batch, self.stage, self._weighed, self._others)

    @property
    def said(self) -> ChangeSet:
        """The same: every staged row has its own outcome."""
        return self.change

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh`."""
        self.before = before = self._reads.target(target_version)
        self._others = others_on(before, self.contract)
        weighed = self._judged(before, find_rows)
        self._weighed = self._refolded(weighed) if self._absent else weighed
        return self._count(self._weighed)

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh_again`."""
        self._weighed = self._judged(self._reads.target(target_version), find_by_scan, again=True)
        return self._count(self._weighed)

    def close(self) -> None:
        """See `Weighing.close`."""
        self._reads.close()

    def _count(self, weighed: WeighedBatch) -> dict[str, RowCounts]:
        return count_outcomes(self.session, self.batch, weighed.outcomes, weighed.staged.deliveries)

    # -- relations of the rules -----------------------------------------------------------------------------

    def _judged(self, target: Snapshot, find: FindRows, *, again: bool = False) -> WeighedBatch:
        """Fill the relations that `rules.outcomes` reads, and run its rule for the outcomes."""
        run = self.session.run
        self._absent = self._absent_columns()
        staged = stage_rows(self.session, self.batch, self.stage)
        found = find(self.session, target, staged)
        recalled = None if again else self._recalled(staged, found)
        ids = " UNION ".join(f"SELECT delivery_id FROM {rows}" for rows in (found.before, recalled) if rows)
        placed = place_deliveries(self.session, ids, (self.batch.number, staged.deliveries))
        STAGED.make(run, placing.STAGED)
        CURRENT.make(run, placed_or_lowest_sql(str(found.before)))
        rule = rules.OUTCOMES_AGAIN if again else rules.OUTCOMES_UNTIED
        if recalled is not None:
            RECALLED.make(run, placed_or_lowest_sql(str(recalled)))
            rule = rules.OUTCOMES
        CODES_ROW.make(run, rules.codes_sql(self.batch.number))
        kept = recalled is not None  # other rules read `ranked` only once
        ordered(self.session, RANKED, staged.repeated, rules.RANKED, rules.RANKED_ALONE, kept=kept)
        best = ordered(self.session, BEST, found.doubled, rules.BEST, rules.BEST_ALONE)
        return WeighedBatch(staged, found, placed, best, OUTCOMES.make(run, rule))

    def _recalled(self, staged: StagedBatch, found: FoundRows) -> Relation | None:
        """Create `history_rows`: the history's rows of the keys that only the history can decide; None without such.

        These are the keys for which a staged row ties with the target's on event time and differs, while a delivery
        with the same or a higher file key was loaded before. When some delivery lacks columns, they are all staged
        keys.
        """
        keys = f"SELECT key FROM {staged.keys}"
        if not self._absent:
            if not found.tied or not self._ties():
                return None
            keys += " WHERE k IN (SELECT k FROM ties)"
        run = self.session.run
        hashed = self.session.key_hash_sql(contract_key_sql(self.contract))
        return HISTORY_ROWS.make(run, f"SELECT {hashed} AS k, {order_sql(self.contract)} FROM {self._past(keys)}")

    def _ties(self) -> int:
        """Create `ties`, see `rules.TIES`, and count its rows."""
        run = self.session.run
        before = f"{LOADED} AND batch < {self.batch.number}"
        relations.LOADED.make(run, f"SELECT max(file_key) AS fk FROM {self.session.deliveries()} WHERE {before}")
        run(f"CREATE OR REPLACE TEMP TABLE ties AS {rules.TIES}")
        return int(str(run("SELECT count(*) FROM ties")[0][0]))

    def _past(self, keys: str) -> str:
        """SQL of the accepted rows that the history has of some keys, from before this batch."""
        history = scan_sql(self.session.con, self._reads.history(keys), history_columns(self.contract))
        before = accepted_sql(self.batch.number - 1, self.session.deliveries())
        return f"(SELECT * FROM {history} WHERE {contract_key_sql(self.contract)} IN ({keys}) AND {before})"

    # -- files that lack a column ---------------------------------------------------------------------------

    def _absent_columns(self) -> tuple[str, ...]:
        """Contract columns that some delivery, of this batch or loaded before, lacks."""
        absent = {name for manifest in self.batch.manifests for name in manifest.absent}
        rows = self.session.run(lacking_sql(self.session.deliveries()))
        absent |= {str(row[0]) for row in rows}
        return tuple(sorted(absent & set(self.contract.names)))

    def _refolded(self, weighed: WeighedBatch) -> WeighedBatch:
        """The batch with the fold of its keys' whole history: it supplies the columns to write, and new outcomes."""
        stage = scan_sql(self.session.con, self.stage, stage_columns(self.contract))
        rows = [self._past(f"SELECT key FROM {weighed.staged.keys}"), f"(SELECT * FROM {stage} WHERE _kind = 'row')"]
        hashed = self.session.key_hash_sql(contract_key_sql(self.contract))
        folded = fold(self.session, weighed.placed, rows, self._absent, hashed)
        content = f"SELECT _k AS k, {content_sql(self.contract)} AS ch FROM {folded}"
        steps = f"weighed AS (FROM {weighed.outcomes}), folded_content AS ({content})"
        outcomes = OUTCOMES.make(self.session.run, f"WITH {steps} {rules.OUTCOMES_FOLDED}")
        return replace(weighed, outcomes=outcomes, folded=folded)


# -- what other weighings do likewise ---------------------------------------------------------------------------------


def deliveries_of(session: Session, batch: Batch) -> Relation:
    """Create `batch_deliveries`: the deliveries of a batch that have a file."""
    session.con.register("batch_deliveries_arrow", batch_deliveries(batch))
    deliveries = BATCH_DELIVERIES.make(session.run, "FROM batch_deliveries_arrow")
    session.con.unregister("batch_deliveries_arrow")
    return deliveries


def stage_rows(session: Session, batch: Batch, stage: Snapshot) -> StagedBatch:
    """The staged rows of a batch, with the columns of the rules only, and its deliveries.

    Args:
        session: The pass.
        batch: As it is staged.
        stage: The stage with the batch's rows.
    """
    run, con, contract = session.run, session.con, session.config.contract
    deliveries = deliveries_of(session, batch)
    content, key = content_sql(contract), contract_key_sql(contract)
    hashed = session.key_hash_sql(key)
    rows_sql = scan_sql(con, stage, stage_columns(contract))
    source = f"FROM {rows_sql} JOIN (SELECT dn AS _dn, fk AS _fk FROM {deliveries}) ON _delivery_no = _dn"
    rows = STAGED_ROWS.make(
        run,
        f"SELECT * EXCLUDE (delivery_id) FROM (SELECT {hashed} AS k, _dn AS dn, {content} AS ch, "
        f"{order_sql(contract)}, _fk AS fk {source} WHERE _kind = 'row')",
    )
    keys = f"(SELECT {hashed} AS k, {key} AS key {source} WHERE _kind = 'row')"
    return StagedBatch(deliveries, rows, keys, REPEATED.make(run, rules.several(str(rows))))


def ordered(
    session: Session, relation: Relation, several: Relation, rule: str, alone: str, *, kept: bool = True
) -> Relation:
    """Create `ranked` or `best`. When every key has one row there is nothing to order, and a view suffices.

    Args:
        session: The pass.
        relation: Which of the two.
        several: The keys that occur more than once.
        rule: SQL of its rows.
        alone: SQL of its rows when there are no such keys.
        kept: Whether to keep the rows, for who reads them more than once. Of a large batch they would take as much
            memory as all else together.
    """
    if not session.run(f"SELECT count(*) FROM {several}")[0][0]:
        return relation.make(session.run, alone)
    if kept:
        session.run(f"CREATE OR REPLACE TEMP TABLE {relation}_ordered AS {rule}")
        rule = f"FROM {relation}_ordered"
    return relation.make(session.run, rule)


def count_outcomes(session: Session, batch: Batch, outcomes: Relation, deliveries: Relation) -> dict[str, RowCounts]:
    """Rows by outcome, by delivery id.

    Args:
        session: The pass.
        batch: As it is staged.
        outcomes: `outcomes` of its rows.
        deliveries: `batch_deliveries`.
    """
    rows = session.run(
        f"SELECT delivery_id, outcome, count(*) FROM {outcomes} o JOIN {deliveries} d ON o.dn = d.dn GROUP BY ALL"
    )
    return counted(batch, [(delivery_id, OUTCOME_OF[int(str(code))], count) for delivery_id, code, count in rows])
