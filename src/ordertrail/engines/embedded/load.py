"""Load: give every staged row its outcome and bring the target up to date in one commit.

The rules are the SQL of `rules.outcomes`. This module fills its relations from the stage and the target (how the
target's rows are found: `local.find`), checks the balance, and commits what comes out (how it is written:
`apply`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ordertrail.delta.actions import AddFile, Json
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Change, scan_sql
from ordertrail.engines.batch_rows import batch_deliveries, check_balance, counted, row_counts
from ordertrail.engines.embedded.apply import ChangeSet, share_file, write_copies, write_vectors
from ordertrail.engines.embedded.damage import resets
from ordertrail.engines.embedded.stage import ROWS_TAG
from ordertrail.engines.ledger import RESETS
from ordertrail.engines.local.find import find_by_scan, find_rows
from ordertrail.engines.local.fold import ABSENT, fold, place_deliveries
from ordertrail.engines.local.session import Session, others_on
from ordertrail.errors import ForeignChangeError
from ordertrail.model import Batch, Manifest, Outcome, RowCounts
from ordertrail.rules import outcomes as rules
from ordertrail.rules.placing import LOWEST, content_sql, contract_key_sql, order_sql
from ordertrail.rules.tables import TableColumn, history_columns, stage_columns

SHARE_ROWS = 500_000
"""A stage file of at least this many rows becomes a file of target and history as it is, when all are inserted."""


class Load:
    """One batch's load.

    After `run`, the DuckDB table `outcomes` (see `rules.outcomes`) holds what `record` needs.
    `shared` has the data files that are also history's, each with its place: none, those of all accepted rows, or with
    `rest` that of the rows that changed the target.

    Args:
        session: The pass.
        batch: As it is staged.
    """

    def __init__(self, session: Session, batch: Batch) -> None:
        self.session = session
        self.batch = batch
        self.contract = session.config.contract
        self.stage = session.tables.stage.snapshot()
        self.shared: tuple[tuple[Path, AddFile], ...] = ()
        self.rest = False
        self._absent: tuple[str, ...] = ()
        self._others: tuple[TableColumn, ...] = ()
        self._deliveries = ""
        self._target = session.tables.target
        if self.stage.txns.get(session.app_id) != batch.number:
            raise ForeignChangeError(
                f"the stage holds batch {self.stage.txns.get(session.app_id)}, not {batch.number}",
                hint="another pass has staged meanwhile; run again",
            )

    def run(self) -> Mapping[str, RowCounts]:
        """See `Engine.load`."""
        session = self.session
        before = self._target.snapshot()
        recorded = self._recorded()
        if before.txns.get(session.app_id, 0) >= self.batch.number:
            return recorded or self._again()
        counts = self.share(before)
        if counts is None:
            counts = self.weigh(before)
            self.apply(before)
        return recorded or counts

    @property
    def change(self) -> ChangeSet:
        """What is to be applied; after the rows have been weighed."""
        return ChangeSet(self.batch, self.stage, folded=bool(self._absent), others=self._others)

    # -- every row is inserted: the stage's files are the target's ------------------------------------------

    def share(self, before: Snapshot) -> Mapping[str, RowCounts] | None:
        """The first load of a large file: rows that are written already need not be written again.

        Returns:
            As `weigh`; None when nothing was committed, because that is not how this batch is loaded.
        """
        files = [file for file in self.stage.files.values() if ROWS_TAG in file.tags]
        if before.files or not files or min(file.rows or 0 for file in files) < SHARE_ROWS:
            return None
        if others_on(before, self.contract):
            return None  # a file of the stage may have a column of that name, which is not theirs
        relation = scan_sql(self.session.con, self.stage, stage_columns(self.contract))
        key = contract_key_sql(self.contract)
        keys = f"SELECT count(*) FROM (SELECT DISTINCT hash({key}) FROM {relation} WHERE _kind = 'row')"
        rows = sum(file.rows or 0 for file in files)
        if any(manifest.absent for manifest in self.batch.manifests) or self.session.run(keys)[0][0] != rows:
            return None
        counts = {m.delivery_id: row_counts(m, {Outcome.INSERTED: _staged_rows(m)}) for m in self.batch.manifests}
        check_balance(counts)
        add = [share_file(self.stage.path_of(file), self._target.root, file) for file in files]
        self.session.probe("load.files")
        self._commit(before, add, ())
        self.shared = tuple((self.stage.path_of(file), file) for file in files)
        return counts

    # -- some rows meet others: order, compare, replace -----------------------------------------------------

    def weigh(self, before: Snapshot) -> Mapping[str, RowCounts]:
        """Give every staged row its outcome against a target without this batch; nothing is committed.

        Args:
            before: The target.

        Returns:
            Rows by outcome, by delivery id.

        Raises:
            BalanceError: P3 does not hold.
        """
        self._others = others_on(before, self.contract)
        self._register_deliveries()
        self._prepare(before, find_rows)
        self.session.run(f"CREATE OR REPLACE TEMP TABLE outcomes AS {rules.OUTCOMES}")
        if self._absent:
            self._refold()
        counts = self._count_outcomes()
        check_balance(counts)
        return counts

    def apply(self, before: Snapshot) -> None:
        """Bring the target up to date, in one commit; after `weigh`.

        Args:
            before: The target that the rows were weighed against.

        Raises:
            CommitConflictError: It is no longer what it was; nothing was committed.
        """
        write = write_vectors if before.takes_vectors else write_copies
        written = write(self.session, self.change, before)
        self.session.probe("load.files")
        self._commit(before, written.add, written.remove)
        if written.new is not None:
            self.shared, self.rest = ((before.path_of(written.new), written.new),), True

    def _again(self) -> Mapping[str, RowCounts]:
        """The outcomes of a load that was committed by a pass that did not live to record it."""
        version = self._target.version_of(self.session.app_id, self.batch.number)
        if version is None:
            raise ForeignChangeError(
                f"the commit of batch {self.batch.number} is gone from the log of {self._target.root.name}",
                hint="run ordertrail rebuild, then run again: it takes the batch from the stage",
            )
        return self.weigh_again(self._target.snapshot(version))

    def weigh_again(self, after: Snapshot) -> Mapping[str, RowCounts]:
        """Give every staged row its outcome against a target that has this batch.

        Args:
            after: The target, at the version that carries the batch's `txn`.

        Returns:
            As `weigh`.

        Raises:
            BalanceError: As `weigh`.
        """
        self._register_deliveries()
        self._prepare(after, find_by_scan)
        self.session.run(f"CREATE OR REPLACE TEMP TABLE outcomes AS {rules.OUTCOMES_AGAIN}")
        counts = self._count_outcomes()
        check_balance(counts)
        return counts

    def _recorded(self) -> Mapping[str, RowCounts] | None:
        """The outcomes that the history has of this batch, None when it has not the batch yet.

        They are what counts, also where the target was damaged when they came about and was rebuilt since.
        """
        history = self.session.tables.history.snapshot()
        if history.txns.get(self.session.app_id, 0) < self.batch.number:
            return None
        rows = scan_sql(self.session.con, history, history_columns(self.contract))
        found = self.session.run(
            f"SELECT _delivery_id, _outcome, count(*) FROM {rows} WHERE _batch = {self.batch.number} GROUP BY ALL"
        )
        counts = counted(self.batch, found)
        check_balance(counts)
        return counts

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
        run(
            "CREATE OR REPLACE TEMP VIEW staged AS SELECT s.k, s.dn, s.ch, s.ev, s.rk, s.fr, p.fk, p.tb "
            "FROM staged_rows s JOIN (SELECT dn, p.fk, p.tb FROM batch_deliveries JOIN placed p USING (delivery_id)) p "
            "USING (dn)"
        )
        for view, table in (("current", "target_before"), ("recalled", "history_rows")):
            run(
                f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT t.*, coalesce(fk, {LOWEST}) AS fk, "
                f"coalesce(tb, {LOWEST}) AS tb FROM {table} t LEFT JOIN placed p USING (delivery_id)"
            )
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
            f"{self._deliveries} WHERE state = 'loaded' AND batch < {self.batch.number}"
        )
        run(f"CREATE OR REPLACE TEMP TABLE ties AS {rules.TIES}")
        keys = "SELECT key FROM staged_keys"
        if not self._absent:
            keys += " WHERE k IN (SELECT k FROM ties)"
        if not self._absent and run("SELECT count(*) FROM ties")[0][0] == 0:
            nothing = "SELECT k, ev, rk, fr, delivery_id FROM target_before LIMIT 0"
            run(f"CREATE OR REPLACE TEMP TABLE history_rows AS {nothing}")
            return
        history = scan_sql(self.session.con, self.history_of(keys), history_columns(self.contract))
        key = contract_key_sql(self.contract)
        run(
            f"CREATE OR REPLACE TEMP TABLE history_rows AS SELECT {self.session.key_hash_sql(key)} AS k, "
            f"{order_sql(self.contract)} "
            f"FROM {history} WHERE {key} IN ({keys}) AND _batch < {self.batch.number}"
        )

    def history_of(self, keys: str) -> Snapshot:  # noqa: ARG002 - who has not the whole history at hand needs them
        """The history, with at least the rows of some keys.

        Args:
            keys: SQL of the keys as text.
        """
        return self.session.tables.history.snapshot()

    def _register_deliveries(self) -> None:
        self.session.con.register("batch_deliveries_arrow", batch_deliveries(self.batch))
        self.session.run("CREATE OR REPLACE TEMP TABLE batch_deliveries AS FROM batch_deliveries_arrow")
        self.session.con.unregister("batch_deliveries_arrow")

    # -- files that lack a column ---------------------------------------------------------------------------

    def _absent_columns(self) -> tuple[str, ...]:
        """Contract columns that some delivery, of this batch or loaded before, does not carry."""
        absent = {name for manifest in self.batch.manifests for name in manifest.absent}
        rows = self.session.run(
            f"SELECT DISTINCT unnest({ABSENT}) FROM {self._deliveries} WHERE state = 'loaded' AND absent <> '[]'"
        )
        return tuple(sorted(absent | {str(row[0]) for row in rows}))

    def _refold(self) -> None:
        """Fold the keys' whole history, and replace `outcomes`; `folded` has the contract columns to write."""
        key = contract_key_sql(self.contract)
        keys = "SELECT key FROM staged_keys"
        wanted = f"{key} IN ({keys}) AND _batch < {self.batch.number}"
        history = self.history_of(keys)
        fold(self.session, history, wanted, self._absent, self.stage, self.session.key_hash_sql(key))
        self.session.run(
            "CREATE OR REPLACE TEMP TABLE outcomes AS WITH weighed AS (FROM outcomes), folded_content AS "
            f"(SELECT _k AS k, {content_sql(self.contract)} AS ch FROM folded) {rules.OUTCOMES_FOLDED}"
        )

    # -- counting and writing -------------------------------------------------------------------------------

    def _count_outcomes(self) -> dict[str, RowCounts]:
        names = {number: outcome for outcome, number in rules.CODES.items()}
        rows = self.session.run(
            "SELECT delivery_id, outcome, count(*) FROM outcomes o JOIN batch_deliveries d ON o.dn = d.dn GROUP BY ALL"
        )
        found = [(delivery_id, names[int(str(code))], count) for delivery_id, code, count in rows]
        return counted(self.batch, found)

    def _commit(self, before: Snapshot, add: Sequence[AddFile], remove: Sequence[AddFile]) -> None:
        info: dict[str, Json] = {"run_id": self.batch.run_id, "deliveries": len(self.batch.manifests)}
        app_id = self.session.app_id
        if taken := resets(self._target, app_id, before.txns.get(app_id, 0)):
            info[RESETS] = list(taken)
        version = self._target.commit(before, Change(self.session.txn(self.batch), "MERGE", add, remove, info))
        self.session.probe("load.committed")
        self._target.checkpoint_if_due(version)


def _staged_rows(manifest: Manifest) -> int:
    return manifest.rows_parsed - manifest.rows_rejected - manifest.rows_duplicate
