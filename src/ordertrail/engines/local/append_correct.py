"""Weighs a correction of a target that keeps every row (mode `append`): which rows it still lacks.

No row is ever taken out. What no longer counts is told by the state of its delivery, and whoever asks for the latest
state leaves it out. The target gets the rows of deliveries that count of which it has no equal one that counts
(`rules.corrections`): those of a file that is read anew, and on an `undo` those that another delivery said as well.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.load import require_staged
from ordertrail.engines.local import relations as r
from ordertrail.engines.local.accepted import ChangeSet
from ordertrail.engines.local.append import outcomes_sql, weighed_batch
from ordertrail.engines.local.correct import (
    CORRECTION_ROWS,
    correction_of,
    count_correction,
    counting_sql,
    gather,
    key_cells_sql,
    number_past_deliveries,
    past_rows_sql,
    touched_keys,
)
from ordertrail.engines.local.find import find_standing
from ordertrail.engines.local.relations import StagedBatch, WeighedBatch
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.weigh import Reads, WholeTables
from ordertrail.model import Batch, RowCounts
from ordertrail.rules import corrections as rules
from ordertrail.rules import outcomes as order_rules
from ordertrail.rules.accepted import RECORDED
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.tables import history_columns, target_columns


class AppendCorrection:
    """`Weighing` of a correction in DuckDB, in mode `append`.

    Attributes:
        session: The pass.
        batch: As it is staged.
        contract: The pipeline's contract.
        stage: The stage with the batch.
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
        """The rows to append to the target, once the correction was weighed."""
        assert self._weighed is not None
        keys = key_cells_sql(self.contract)
        return ChangeSet(self.batch, self.stage, self._weighed, rows=CORRECTION_ROWS, keys=keys)

    @property
    def said(self) -> ChangeSet:
        """The rows that are staged with the correction, with their outcomes: what the history gets."""
        assert self._weighed is not None
        return ChangeSet(self.batch, self.stage, replace(self._weighed, outcomes=r.OUTCOMES))

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh`."""
        session, run = self.session, self.session.run
        self.before = before = self._reads.target(target_version)
        staged, past = self._touched()
        counting = counting_sql(correction_of(self.batch))
        earlier = f"FROM {session.deliveries()} WHERE {RECORDED} AND batch < {self.batch.number}"
        number_past_deliveries(session, f"(SELECT delivery_id {earlier} AND {counting})")
        r.ELIGIBLE.make(
            run,
            "SELECT k, ch, hpos, dn, fr, row_number() OVER (PARTITION BY k, ch ORDER BY bn, id, fr) AS repeat FROM ("
            f"SELECT {session.key_hash_sql(contract_key_sql(self.contract))} AS k, coalesce(_row_hash, -1) AS ch, "
            f"_pos AS hpos, d.dn, _file_row AS fr, _batch AS bn, d.delivery_id AS id FROM {past} "
            f"JOIN past_deliveries d ON _delivery_id = d.delivery_id UNION ALL SELECT k, ch, NULL AS hpos, dn, fr, "
            f"{self.batch.number} AS bn, delivery_id AS id FROM {r.NEW_ROWS})",
        )
        gone = run(f"SELECT delivery_id {earlier} AND NOT {counting}")
        find_standing(session, before, staged, str(r.ELIGIBLE), [str(one) for (one,) in gone])
        r.ADDED.make(run, f"SELECT a.k, hpos, dn, fr, {_NO_ROW}, outcome FROM ({rules.ADDED}) a")
        counts = self._judged()
        deliveries = gather(session, self.stage, past, f"SELECT * FROM {r.ADDED}")
        staged = replace(staged, deliveries=deliveries)
        self._weighed = weighed_batch(session, staged, r.ADDED)
        return counts

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh_again`."""
        session = self.session
        target = self._reads.target(target_version)  # first: whoever fetches it fetches the deliveries with it
        staged, _ = self._touched()
        scan = scan_sql(session.con, target, target_columns(self.contract))
        hashed = session.key_hash_sql(contract_key_sql(self.contract))
        r.ADDED.make(
            session.run,
            f"SELECT {hashed} AS k, CAST(NULL AS BIGINT) AS hpos, coalesce(d.dn, -1) AS dn, _file_row AS fr, "
            f"{_NO_ROW}, c.inserted AS outcome FROM {scan} t CROSS JOIN {r.CODES_ROW} c LEFT JOIN {staged.deliveries} "
            f"d ON t._delivery_id = d.delivery_id WHERE t._batch = {self.batch.number}",
        )
        counts = self._judged()
        self._weighed = weighed_batch(session, staged, r.ADDED)
        return counts

    def close(self) -> None:
        """See `Weighing.close`."""
        self._reads.close()

    def _touched(self) -> tuple[StagedBatch, str]:
        """The keys concerned, and SQL of their rows in the history before this batch."""
        r.CODES_ROW.make(self.session.run, order_rules.codes_sql(self.batch.number))
        history = scan_sql(self.session.con, self._reads.history(""), history_columns(self.contract))
        staged = touched_keys(self.session, self.batch, self.stage, history)
        return staged, past_rows_sql(self.session, self.batch, history)

    def _judged(self) -> dict[str, RowCounts]:
        r.OUTCOMES.make(self.session.run, outcomes_sql(rules.NEW_ROWS_APPENDED))
        fates = f"SELECT outcome, count(*) FROM ({rules.KEYS_ADDED}) GROUP BY ALL"
        return count_correction(self.session, self.batch, fates)


_NO_ROW = ", ".join(f"CAST(NULL AS BIGINT) AS {name}" for name in ("rv", "pos", "ins"))
