"""Weigh a batch in DuckDB: what becomes of every staged row.

The rules are the SQL of `rules.outcomes`. This module fills the relations that they read from the stage, the target and
the history; `find` finds the target's rows of the staged keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.batch_rows import batch_deliveries, counted
from ordertrail.engines.load import require_staged
from ordertrail.engines.local.accepted import ChangeSet
from ordertrail.engines.local.find import find_by_scan, find_rows
from ordertrail.engines.local.fold import fold, place_deliveries
from ordertrail.engines.local.session import Session, others_on
from ordertrail.model import Batch, RowCounts
from ordertrail.rules import outcomes as rules
from ordertrail.rules.accepted import LOADED, lacking_sql, recorded_sql
from ordertrail.rules.placing import OF_ROW, STAGED, content_sql, contract_key_sql, order_sql, placed_or_lowest_sql
from ordertrail.rules.tables import TableColumn, history_columns, stage_columns


class Reads(Protocol):
    """Where the rows of target and history are that a batch is weighed against."""

    def target(self, version: int) -> Snapshot:
        """The target as of a version, with at least the rows of the staged keys."""
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
    """`Reads` of the tables themselves.

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
        """See `Reads.close`: the tables are the session's."""


class LocalWeighing:
    """`Weighing` in DuckDB.

    Afterwards the DuckDB table `outcomes` (see `rules.outcomes`) holds what is to be applied and recorded.

    Attributes:
        session: The pass.
        batch: As it is staged.
        contract: Of the pipeline.
        stage: Has the batch's rows.
        before: The target that the batch was last weighed against by `weigh`; None before that.

    Args:
        session: The pass.
        batch: As it is staged.
        reads: Where the rows are that the batch meets; None takes the session's tables.

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
        self._deliveries = ""
        require_staged(self.stage.txns.get(session.app_id), batch)

    @property
    def change(self) -> ChangeSet:
        """What is to be applied; after `weigh`."""
        return ChangeSet(self.batch, self.stage, folded=bool(self._absent), others=self._others)

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh`."""
        self.before = before = self._reads.target(target_version)
        self._others = others_on(before, self.contract)
        self._register_deliveries()
        self._prepare(before, find_rows)
        self.session.run(f"CREATE OR REPLACE TEMP TABLE outcomes AS {rules.OUTCOMES}")
        if self._absent:
            self._refold()
        return self._count_outcomes()

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh_again`."""
        self._register_deliveries()
        self._prepare(self._reads.target(target_version), find_by_scan)
        self.session.run(f"CREATE OR REPLACE TEMP TABLE outcomes AS {rules.OUTCOMES_AGAIN}")
        return self._count_outcomes()

    def close(self) -> None:
        """See `Weighing.close`."""
        self._reads.close()

    # -- relations of the rules -----------------------------------------------------------------------------

    def _prepare(self, target: Snapshot, find: Callable[[Session, Snapshot], None]) -> None:
        """Fill the relations that `rules.outcomes` reads and make `ranked` and `best` of them; `find` finds rows."""
        run = self.session.run
        content = content_sql(self.contract)
        key = contract_key_sql(self.contract)
        self._deliveries = self.session.deliveries()
        self._absent = self._absent_columns()
        staged = scan_sql(self.session.con, self.stage, stage_columns(self.contract))
        hashed = self.session.key_hash_sql(key)
        rows = f"FROM {staged} JOIN (SELECT dn AS _dn, fk AS _fk FROM batch_deliveries) ON _delivery_no = _dn"
        run(
            f"CREATE OR REPLACE TEMP TABLE staged_rows AS SELECT * EXCLUDE (delivery_id) FROM (SELECT {hashed} AS k, "
            f"_dn AS dn, {content} AS ch, {order_sql(self.contract)}, _fk AS fk {rows} WHERE _kind = 'row')"
        )
        run(f"CREATE OR REPLACE TEMP VIEW staged_keys AS SELECT {hashed} AS k, {key} AS key {rows} WHERE _kind = 'row'")
        run(f"CREATE OR REPLACE TEMP TABLE repeated AS {rules.several('staged_rows')}")
        find(self.session, target)
        self._recall()
        ids = "SELECT delivery_id FROM target_before UNION SELECT delivery_id FROM history_rows"
        place_deliveries(self.session, ids, self.batch.number)
        run(f"CREATE OR REPLACE TEMP VIEW staged AS {STAGED}")
        for view, table in (("current", "target_before"), ("recalled", "history_rows")):
            run(f"CREATE OR REPLACE TEMP VIEW {view} AS {placed_or_lowest_sql(table)}")
        run(f"CREATE OR REPLACE TEMP TABLE codes AS {rules.codes_sql(self.batch.number)}")
        self._order("ranked", rules.RANKED, rules.RANKED_ALONE, "repeated")
        self._order("best", rules.BEST, rules.BEST_ALONE, "doubled")

    def _order(self, name: str, rule: str, alone: str, several: str) -> None:
        """Make `ranked` or `best`. A row that is its key's only one has nothing to be ordered with: a view will do."""
        if self.session.run(f"SELECT count(*) FROM {several}")[0][0]:
            self.session.run(f"CREATE OR REPLACE TEMP TABLE {name}_ordered AS {rule}")
            alone = f"FROM {name}_ordered"
        self.session.run(f"CREATE OR REPLACE TEMP VIEW {name} AS {alone}")

    def _recall(self) -> None:
        """`history_rows`: history's rows of the keys where only it can tell.

        These are the keys where a staged row ties with the target's on event time and differs, while a delivery with
        a file key not lower was loaded before. When some delivery lacks columns it is every staged key.
        """
        run = self.session.run
        run(
            "CREATE OR REPLACE TEMP TABLE loaded AS SELECT max(file_key) AS fk FROM "
            f"{self._deliveries} WHERE {LOADED} AND batch < {self.batch.number}"
        )
        run(f"CREATE OR REPLACE TEMP TABLE ties AS {rules.TIES}")
        keys = "SELECT key FROM staged_keys"
        if not self._absent:
            keys += " WHERE k IN (SELECT k FROM ties)"
        if not self._absent and run("SELECT count(*) FROM ties")[0][0] == 0:
            nothing = f"SELECT k, {', '.join(OF_ROW)}, delivery_id FROM target_before LIMIT 0"
            run(f"CREATE OR REPLACE TEMP TABLE history_rows AS {nothing}")
            return
        history = scan_sql(self.session.con, self._reads.history(keys), history_columns(self.contract))
        key = contract_key_sql(self.contract)
        run(
            f"CREATE OR REPLACE TEMP TABLE history_rows AS SELECT {self.session.key_hash_sql(key)} AS k, "
            f"{order_sql(self.contract)} "
            f"FROM {history} WHERE {key} IN ({keys}) AND {recorded_sql(self.batch.number - 1)}"
        )

    def _register_deliveries(self) -> None:
        self.session.con.register("batch_deliveries_arrow", batch_deliveries(self.batch))
        self.session.run("CREATE OR REPLACE TEMP TABLE batch_deliveries AS FROM batch_deliveries_arrow")
        self.session.con.unregister("batch_deliveries_arrow")

    # -- files that lack a column ---------------------------------------------------------------------------

    def _absent_columns(self) -> tuple[str, ...]:
        """Contract columns that some delivery, of this batch or loaded before, does not carry."""
        absent = {name for manifest in self.batch.manifests for name in manifest.absent}
        rows = self.session.run(lacking_sql(self._deliveries))
        return tuple(sorted(absent | {str(row[0]) for row in rows}))

    def _refold(self) -> None:
        """Fold the keys' whole history, and replace `outcomes`; `folded` has the contract columns to write."""
        key = contract_key_sql(self.contract)
        keys = "SELECT key FROM staged_keys"
        wanted = f"{key} IN ({keys}) AND {recorded_sql(self.batch.number - 1)}"
        history = self._reads.history(keys)
        fold(self.session, history, wanted, self._absent, self.stage, self.session.key_hash_sql(key))
        self.session.run(
            "CREATE OR REPLACE TEMP TABLE outcomes AS WITH weighed AS (FROM outcomes), folded_content AS "
            f"(SELECT _k AS k, {content_sql(self.contract)} AS ch FROM folded) {rules.OUTCOMES_FOLDED}"
        )

    # -- counting -------------------------------------------------------------------------------

    def _count_outcomes(self) -> dict[str, RowCounts]:
        names = {number: outcome for outcome, number in rules.CODES.items()}
        rows = self.session.run(
            "SELECT delivery_id, outcome, count(*) FROM outcomes o JOIN batch_deliveries d ON o.dn = d.dn GROUP BY ALL"
        )
        found = [(delivery_id, names[int(str(code))], count) for delivery_id, code, count in rows]
        return counted(self.batch, found)
